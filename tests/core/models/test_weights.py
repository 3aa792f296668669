import pickle
from collections import OrderedDict

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn
from torch.nn.utils import prune

from dlkit.core.models import (
    Arch,
    find_weights,
    load_initial_weights,
    load_weights,
    mlp,
    plain_reading,
    read_state_dict,
    resnet_small,
)
from dlkit.errors import FileRefused


def small(num_classes=10, in_channels=3):
    return resnet_small(in_channels, num_classes, depth=8, width=4)


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def equal(model, state):
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


WRAPS = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": {}},
    "model_state_dict": lambda s: {"model_state_dict": s, "loss": 0.5},
    "ddp": lambda s: prefixed(s, "module."),
    "compiled": lambda s: prefixed(s, "_orig_mod."),
    "ddp of compiled": lambda s: prefixed(s, "module._orig_mod."),
    "compiled ddp, twice": lambda s: {"state_dict": {"model": prefixed(s, "_orig_mod.module.module.")}},
    "a parallel part": lambda s: {name.replace("layer1.", "layer1.module."): value for name, value in s.items()},
    "an average": lambda s: {"n_averaged": torch.tensor(3), **prefixed(s, "module.")},
    "torchvision's average": lambda s: {"model_ema": {"n_averaged": torch.tensor(3), **prefixed(s, "module.")}},
    "lightning": lambda s: {"state_dict": prefixed(s, "model."), "hyper_parameters": {"lr": 0.1}},
    "lightning, parallel": lambda s: {"state_dict": prefixed(s, "module.net.")},
    "basicsr": lambda s: {"params": s},
    "basicsr, average alone": lambda s: {"params_ema": s},
    "timm": lambda s: {"state_dict": s, "state_dict_ema": prefixed(s, "x."), "optimizer": {"state": {0: s}}},
    "a tutorial": lambda s: {"model_state": s, "optimizer_state": {"state": {0: {"exp_avg": s["fc.bias"]}}}},
    "a name of one's own": lambda s: {"generator_weights": s, "step": 3},
    "weights": lambda s: {"weights": s},
    "net": lambda s: {"net": s, "acc": 0.9, "epoch": 3},
    "a compiled part": lambda s: {name.replace("layer1.", "layer1._orig_mod."): value for name, value in s.items()},
    "dlkit": lambda s: {"format": "dlkit.model", "version": 1, "spec": {"x": 1}, "state_dict": s},
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_state_dicts_are_unwrapped(wrap, tmp_path):
    source, target = small(), small()
    path = tmp_path / "w.pt"
    torch.save(WRAPS[wrap](source.state_dict()), path)
    report = load_weights(target, read_state_dict(path))
    assert equal(target, source.state_dict())
    assert (report.num_loaded, report.head) == (len(source.state_dict()), ())


class Wrapping(nn.Module):
    """Names of parts that wrappers use too, and buffers that end as those of torch.nn.utils.prune do."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(3, 4)
        self.fc = nn.Linear(4, 2)
        self.register_buffer("kernel_orig", torch.rand(3))
        self.register_buffer("kernel_mask", torch.tensor([0.0, 1.0, 1.0]))


class OnlyModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = small()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.b.weight = self.a.weight


@pytest.mark.parametrize(
    "wrap", ["plain", "state_dict", "ddp", "compiled", "ddp of compiled", "an average", "lightning"]
)
@pytest.mark.parametrize("build", [Wrapping, OnlyModule])
def test_names_that_belong_to_the_network_stay(wrap, build):
    source, target = build(), build()
    load_weights(target, find_weights(WRAPS[wrap](source.state_dict())).state)
    assert equal(target, source.state_dict())


def test_a_network_inside_takes_the_names_of_what_it_holds():
    source, target = small(), OnlyModule()
    report = load_weights(target, source.state_dict())
    assert equal(target.module, source.state_dict()) and report.words == "'module.' put before the names"


@pytest.mark.parametrize("name", ["a.weight", "b.weight"])
def test_a_tied_weight_may_stand_under_one_name(name):
    source, target = Tied(), Tied()
    state = source.state_dict()
    del state[name]
    load_weights(target, state)
    assert equal(target, source.state_dict()) and target.a.weight is target.b.weight


def test_safetensors_that_keep_a_tied_weight_once(tmp_path):
    source, target = Tied(), Tied()
    safetensors.torch.save_model(source, str(tmp_path / "w.safetensors"))
    assert set(read_state_dict(tmp_path / "w.safetensors")) == set(source.state_dict())
    load_weights(target, read_state_dict(tmp_path / "w.safetensors"))
    assert equal(target, source.state_dict())


def test_two_values_for_a_tied_weight_are_refused():
    state = {name: value.clone() for name, value in Tied().state_dict().items()}
    state["b.weight"] += 1
    with pytest.raises(FileRefused, match=r"b.weight +is a.weight +other values"):
        load_weights(Tied(), state)


def test_what_lies_beside_the_network_is_left_out_and_said():
    source, target = small(), small()
    state = prefixed(source.state_dict(), "model.") | {"criterion.weight": torch.ones(10)}
    report = load_weights(target, state)
    assert equal(target, source.state_dict()) and report.left == ("criterion.weight",)
    assert report.words == "'model.' taken off the names; not used: 1 tensors (criterion.weight)"


def test_a_file_with_the_network_twice_is_refused():
    state = prefixed(small().state_dict(), "student.") | prefixed(small().state_dict(), "teacher.")
    with pytest.raises(
        FileRefused, match=r"2 times, under 'student.' and 'teacher.'.*dlkit convert w.pth .*--prefix student"
    ):
        load_weights(small(), state, source="w.pth")


def test_several_state_dicts_are_refused_and_chosen_from():
    both = {"generator": {"w": torch.zeros(1)}, "discriminator": {"w": torch.ones(1)}}
    with pytest.raises(ValueError, match="several state dicts, under 'generator' and 'discriminator'.*--key generator"):
        find_weights(both)
    assert float(find_weights(both, key="discriminator").state["w"]) == 1
    with pytest.raises(ValueError, match="no weights under 'x', only under 'generator', 'discriminator'"):
        find_weights(both, key="x")


def test_a_prefix_in_the_way_is_named_and_both_sides_are_shown():
    state = prefixed(small().state_dict(), "encoder.")
    renamed = {name.replace("conv", "convolution"): value for name, value in state.items()}
    with pytest.raises(FileRefused) as caught:
        load_weights(small(), renamed)
    text = str(caught.value)
    assert "This is with 'encoder.' taken off the names." in text
    rows = [line.split() for line in text.splitlines() if "missing" in line]
    assert any(row[1] == "missing" for row in rows) and any(row[2] == "missing" for row in rows)
    with pytest.raises(FileRefused) as caught:
        load_weights(small(), prefixed(nn.Linear(2, 3).state_dict(), "encoder."))
    assert (
        "in the file all begin with 'encoder.' (encoder.weight, encoder.bias, ...), in the model share no prefix"
        in str(caught.value)
    )


def test_what_ddp_and_compile_really_save(tmp_path):
    source, target = small(), small()
    wrapped = nn.DataParallel(torch.compile(source))
    torch.save(wrapped.state_dict(), tmp_path / "w.pt")
    load_weights(target, read_state_dict(tmp_path / "w.pt"))
    assert equal(target, source.state_dict())


def test_the_moving_average_is_taken_only_when_asked_for():
    both = {"state_dict": {"w": torch.zeros(1)}, "state_dict_ema": {"w": torch.ones(1)}}
    assert float(find_weights(both).state["w"]) == 0 and find_weights(both).others == ("state_dict_ema",)
    assert float(find_weights(both, key="state_dict_ema").state["w"]) == 1


def test_torchs_pruning_masks_are_baked_in(tmp_path):
    """A masked checkpoint gives dense weights times masks, under the names of the dense network."""
    model, dense = small(), small().state_dict()
    model.load_state_dict(dense)
    prune.l1_unstructured(model.conv1, "weight", amount=0.5)
    prune.ln_structured(model.fc, "weight", amount=0.5, n=2, dim=1)
    prune.random_unstructured(model.bn1, "bias", amount=0.5)
    torch.save(model.state_dict(), tmp_path / "masked.pt")
    masks = {name.removesuffix("_mask"): mask for name, mask in model.named_buffers() if name.endswith("_mask")}
    found = plain_reading(read_state_dict(tmp_path / "masked.pt")).state
    assert set(masks) == {"conv1.weight", "fc.weight", "bn1.bias"} and sorted(found) == sorted(dense)
    for name, tensor in dense.items():
        assert torch.equal(found[name], tensor * masks[name] if name in masks else tensor)
    target = small()
    report = load_weights(target, read_state_dict(tmp_path / "masked.pt"))
    assert equal(target, found) and "baked into 3 tensors" in report.words


def test_a_submodule_called_model_is_not_a_wrapper():
    state = {"model.weight": torch.zeros(1), "module_list.0": torch.zeros(1)}
    assert set(find_weights(state).state) == set(state)


@pytest.mark.parametrize(
    "loaded",
    [
        None,
        {},
        [1],
        {"epoch": 3},
        {"state_dict": {"a": 3}},
        {3: torch.zeros(1)},
    ],
)
def test_what_is_no_state_dict(loaded):
    with pytest.raises(ValueError, match="holds"):
        find_weights(loaded)


def test_safetensors(tmp_path):
    source, target = small(), small()
    safetensors.torch.save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_weights(target, read_state_dict(tmp_path / "w.safetensors"))
    assert equal(target, source.state_dict())


@pytest.mark.parametrize("legacy", [False, True])
def test_both_of_torchs_file_formats(tmp_path, legacy):
    source = small()
    torch.save(source.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    assert set(read_state_dict(tmp_path / "w.pth")) == set(source.state_dict())


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/should-never-exist-dlkit", "w"))


def files(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    torch.save({"w": torch.zeros(1), "x": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "text.pt").write_text("not weights")
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save({"w": torch.zeros(100)}, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-200])
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 50)
    torch.save({"epoch": 3}, tmp_path / "nothing.pt")
    torch.save({"w": torch.zeros(1), "epoch": 3}, tmp_path / "mixed.pt")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("module.pt", "pickled object .*Linear.*can run code when loaded.*--trust-pickle --arch"),
        ("evil.pt", "pickled object .*open.*dlkit convert .*evil.pt"),
        ("evil.pkl", "can run code when loaded"),
        ("text.pt", "not a file that torch.save wrote"),
        ("empty.pt", "the file is empty"),
        ("cut.pt", "the file is truncated"),
        ("bad.safetensors", "not a safetensors file, or a damaged one"),
        ("mixed.pt", "holds no state dict: 'epoch' is a int"),
        ("nothing.pt", "holds no state dict: 'epoch' is a int"),
        ("missing.pt", "no such file"),
    ],
)
def test_other_files_are_refused_without_running_them(tmp_path, name, words):
    from pathlib import Path

    files(tmp_path)
    with pytest.raises(FileRefused, match=words) as caught:
        read_state_dict(tmp_path / name)
    assert caught.value.exit_code == 4
    assert not Path("/tmp/should-never-exist-dlkit").exists()


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "s.pt")
    with pytest.raises(FileRefused, match="a TorchScript file, which is code"):
        read_state_dict(tmp_path / "s.pt")


@pytest.mark.parametrize(
    "build", [small, lambda n: mlp((5,), n), lambda n: torchvision.models.squeezenet1_1(num_classes=n)]
)
def test_a_head_for_other_classes_is_left_and_reported(build):
    source, target = build(10), build(3)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    report = load_weights(target, source.state_dict())
    assert len(report.head) == 2
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name] if name in report.head else source.state_dict()[name]), name


def test_a_strict_head_is_refused():
    with pytest.raises(FileRefused, match=r"fc.weight"):
        load_weights(small(3), small(10).state_dict(), strict_head=True)


def test_mistakes_are_a_short_table_and_change_nothing():
    state = small().state_dict()
    del state["conv1.weight"]
    state["extra.weight"] = torch.zeros(2, 3)
    state["layer1.0.conv1.weight"] = torch.zeros(8, 4, 3, 3)
    target = small()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(FileRefused) as caught:
        load_weights(target, state, source="w.pt")
    text = str(caught.value)
    assert text.startswith("w.pt: does not fit SmallResNet: 3 tensors differ")
    rows = [line.split() for line in text.splitlines()[2:]]
    assert ["conv1.weight", "4x3x3x3", "missing"] in rows
    assert ["layer1.0.conv1.weight", "4x4x3x3", "8x4x3x3"] in rows
    assert ["extra.weight", "missing", "2x3"] in rows
    assert equal(target, before)


def test_the_table_is_cut():
    with pytest.raises(FileRefused) as caught:
        load_weights(small(), {"x": torch.zeros(1)})
    assert "... and" in str(caught.value) and len(str(caught.value).splitlines()) < 15


def test_a_first_convolution_is_summed_for_grey_images():
    source, target = small(in_channels=3), small(in_channels=1)
    report = load_weights(target, source.state_dict())
    assert report.fitted == ("conv1.weight",)
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(target.eval()(x), source.eval()(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_half_precision_and_missing_counters_load():
    source, target = small(), small()
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in source.state_dict().items()
        if "tracked" not in name
    }
    load_weights(target, state)
    torch.testing.assert_close(target.fc.weight, source.fc.weight.half().float())


def test_torchvisions_own_files_with_their_old_names():
    source = torchvision.models.densenet121(num_classes=3)
    old = {
        name.replace("norm1", "norm.1").replace("conv2.weight", "conv.2.weight") if "denselayer" in name else name: v
        for name, v in source.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    target = torchvision.models.densenet121(num_classes=3)
    load_weights(target, old)
    assert equal(target, source.state_dict())


def test_old_transformer_names_and_auxiliary_heads():
    source = torchvision.models.VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=3)
    old = OrderedDict(
        (n.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."), v)
        for n, v in source.state_dict().items()
    )
    assert any("linear_2" in name for name in old)
    target = torchvision.models.VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=3)
    report = load_weights(target, {**old, "aux1.conv.weight": torch.zeros(1)})
    assert equal(target, source.state_dict())
    assert report.ignored == ("aux1.conv.weight",)


def test_versions_reach_the_modules_that_need_them(tmp_path):
    source = torchvision.models.mnasnet0_5(num_classes=3)
    for path, save in ((tmp_path / "w.pt", torch.save), (tmp_path / "w.safetensors", safetensors.torch.save_file)):
        save(source.state_dict(), path)
        target = torchvision.models.mnasnet0_5(num_classes=3)
        load_weights(target, read_state_dict(path))
        assert equal(target, source.state_dict())


def test_a_configs_weights_may_be_a_file(tmp_path):
    source, target = small(), small()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_initial_weights(target, Arch("dlkit", "resnet_small", {}), str(tmp_path / "w.pt"))
    assert equal(target, source.state_dict())


def test_an_unknown_name_of_published_weights():
    from dlkit.core.components import ComponentError

    with pytest.raises(
        ComponentError, match=r"no weights 'IMAGENET' for resnet18.*It has: DEFAULT, IMAGENET1K_V1"
    ) as caught:
        load_initial_weights(small(), Arch("torchvision", "resnet18", {}), "IMAGENET")
    assert caught.value.option == "weights"
