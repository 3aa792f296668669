"""timm's networks: names, options, weights that are published (fetching is replaced by a local file), and files that are hostile."""

import pytest
import safetensors.torch
import timm
import torch

from dlkit.config import Model
from dlkit.core.components import ComponentError
from dlkit.core.data import DataInfo
from dlkit.core.modelfile import ModelSpec, load_model, save_model_file
from dlkit.core.models import Arch, build_model, load_initial_weights, plan_arch, timm_entries
from dlkit.errors import FileRefused

RESNET, VIT = "test_resnet.r160_in1k", "test_vit.r160_in1k"


def plan(name, *, size=(3, 32, 32), **options):
    return plan_arch(Model(name=f"timm/{name}", **options), input_size=size, num_outputs=5)


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Replaces what fetches weights: a file that stands for those of the hub, made of a network with another seed."""

    def publish(name, *, fails=None):
        path = tmp_path / f"{name}.safetensors"
        torch.manual_seed(7)
        safetensors.torch.save_file(timm.create_model(name).state_dict(), path)

        def fetch(*args, **kwargs):
            if fails:
                raise fails
            return safetensors.torch.load_file(path)

        monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", fetch)
        return path

    return publish


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("convnext_ato", "timm has no model 'convnext_ato'. Did you mean 'convnext_atto'?"),
        ("convnext_atto.d2_in1", "no tag 'd2_in1'. Did you mean 'd2_in1k'? It has d2_in1k"),
        ("timm/convnext_atto", "timm has no model 'timm/convnext_atto'"),
        ("../convnext_atto", "timm has no model '../convnext_atto'"),
        ("", "timm has no model ''"),
    ],
)
def test_names_that_timm_does_not_have(name, words):
    with pytest.raises(ComponentError) as caught:
        plan(name)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"drop_path_rat": 0.1}, "Did you mean 'drop_path_rate'?"),
        ({"in_chans": 1}, "unknown key"),
        ({"pretrained": True}, "unknown key"),
        ({"checkpoint_path": "x.pth"}, "unknown key"),
        ({"pretrained_cfg": {"file": "x"}}, "unknown key"),
        ({"features_only": True}, "unknown key"),
        ({"device": "cuda"}, "unknown key"),
        ({"layers": [2, 2]}, "layers belong to the model named layers"),
    ],
)
def test_options_are_those_of_the_class(options, words):
    with pytest.raises(ComponentError, match=words):
        plan("resnet18", **options)
    with pytest.raises(ComponentError, match="cannot be built"):
        build_model(plan("resnet18", act_layer="no_such_activation"))


def test_networks_are_those_of_timm():
    arch = plan(RESNET, size=(1, 32, 32), drop_path_rate=0.1)
    assert arch.to_dict() == {
        "registry": "timm",
        "name": RESNET,
        "options": {"num_classes": 5, "in_channels": 1, "drop_path_rate": 0.1},
    }
    torch.manual_seed(0)
    ours = build_model(arch).eval()
    torch.manual_seed(0)
    wanted = timm.create_model("test_resnet", num_classes=5, in_chans=1, drop_path_rate=0.1).eval()
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(ours(x), wanted(x))
    assert plan(VIT).options["img_size"] == 32 and plan(VIT, size=(3, 32, 48)).options["img_size"] == [32, 48]


def spec_of(arch, size):
    return ModelSpec(arch, DataInfo("classification", "image", size, 5, None, None, None))


@pytest.mark.parametrize(("name", "size"), [(RESNET, (1, 32, 32)), (VIT, (3, 32, 48))])
def test_files_load_bit_for_bit_and_fetch_nothing(published, tmp_path, name, size):
    published(name, fails=AssertionError("fetched while loading"))
    arch = plan(name, size=size)
    network = build_model(arch).eval()
    save_model_file(tmp_path / "model.pt", spec_of(arch, size), network.state_dict())
    x = torch.randn(2, *size)
    assert torch.equal(load_model(tmp_path / "model.pt")(x), network(x))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hf-hub:someone/model", {}),
        ("timm/resnet18", {}),
        ("local-dir:/tmp", {}),
        ("load_checkpoint", {}),
        ("resnet18", {"pretrained": True}),
        ("resnet18", {"pretrained_cfg_overlay": {"file": "x"}}),
        ("resnet18", {"checkpoint_path": "x.pth"}),
    ],
)
def test_a_file_reaches_only_the_registry(tmp_path, name, options):
    path = tmp_path / "model.pt"
    save_model_file(path, spec_of(Arch("timm", name, {"num_classes": 5, **options}), (3, 32, 32)), {"a": torch.ones(1)})
    with pytest.raises(FileRefused, match="cannot be built"):
        load_model(path)


def test_published_weights_are_fitted_as_timm_does(published):
    published(RESNET)
    arch = plan(RESNET, size=(1, 32, 32))
    network = build_model(arch)
    report = load_initial_weights(network, arch, "DEFAULT")
    wanted = timm.create_model(RESNET, pretrained=True, num_classes=5, in_chans=1).state_dict()
    assert report.head == ("fc.weight", "fc.bias") and report.fitted == ("conv1.0.weight",)
    assert report.num_loaded == len(wanted) - 2
    state = network.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in state.items() if name not in report.head)


def test_a_file_may_be_for_pictures_of_another_size(published):
    path = published(VIT)
    arch = plan(VIT)
    network = build_model(arch)
    report = load_initial_weights(network, arch, str(path))
    wanted = timm.create_model(VIT, pretrained=True, num_classes=5, img_size=32).state_dict()
    assert report.head == ("head.weight", "head.bias")
    assert torch.equal(network.state_dict()["pos_embed"], wanted["pos_embed"])
    with pytest.raises(FileRefused, match="does not fit"):
        load_initial_weights(build_model(plan(RESNET)), plan(RESNET), str(path))


def test_without_network_or_weights_it_says_so(published):
    published(RESNET, fails=OSError("Name or service not known"))
    arch = plan(RESNET)
    with pytest.raises(ComponentError) as caught:
        load_initial_weights(build_model(arch), arch, "DEFAULT")
    assert str(caught.value) == (
        "the weights 'DEFAULT' of timm/test_resnet.r160_in1k cannot be had (Name or service not known): check the network and "
        "the options, or fetch timm/test_resnet.r160_in1k elsewhere and give the file's path"
    )
    with pytest.raises(ComponentError, match="a tag behind the model, timm/test_resnet.TAG with weights: DEFAULT"):
        load_initial_weights(build_model(arch), arch, "IMAGENET1K_V1")
    arch = plan("convnext_atto_rms")
    with pytest.raises(ComponentError, match="timm has no weights for convnext_atto_rms"):
        load_initial_weights(build_model(arch), arch, "DEFAULT")


def test_listed_names_can_be_built():
    found = {entry.name: entry for entry in timm_entries("timm/convnext_att")}
    assert found["timm/convnext_atto"].summary == "weights: d2_in1k"
    assert found["timm/convnext_atto"].target == "timm.models.convnext:convnext_atto"
    assert len(timm_entries("timm")) == len(timm_entries("timm/")) == len(timm.list_models())
    assert [entry.name for entry in timm_entries("timm/convnext_atto.d2")] == ["timm/convnext_atto"]
