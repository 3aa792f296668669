import sys
import textwrap

import pytest
import torch
from torch import nn

from dlkit.config import Model
from dlkit.core.components import ComponentError
from dlkit.core.models import Arch, build_model, build_on_meta, plan_arch
from dlkit.registry import entries

LAYERS = [{"conv": {"out": 8, "padding": "same"}}, "relu", "globalavgpool", {"linear": "auto"}]
OURS = [name for name, entry in entries("models").items() if entry.is_ours]


def plan(name, input_size=(1, 28, 28), num_outputs=7, **options):
    if name == "layers":
        options.setdefault("layers", LAYERS)
    if name == "unet":
        options.setdefault("depth", 2)
    return plan_arch(Model(name=name, **options), input_size=input_size, num_outputs=num_outputs)


def test_the_walk_covers_every_model_of_ours():
    assert set(OURS) == {"mlp", "small_cnn", "resnet_small", "cifarnet", "lstm", "unet", "layers"}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("input_size", [(1, 8, 8), (3, 32, 32)])
def test_every_model_of_ours_is_rebuilt_from_its_arch_alone(name, input_size):
    arch = plan(name, input_size)
    model = build_model(Arch.from_dict(arch.to_dict()))
    assert model(torch.randn(2, *input_size)).shape == (2, 7, *(input_size[1:] if name == "unet" else ()))
    on_meta = build_on_meta(arch)
    assert {key: value.shape for key, value in on_meta.state_dict().items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    assert all(parameter.is_meta for parameter in on_meta.parameters())


@pytest.mark.parametrize("name", ["mlp", "lstm"])
@pytest.mark.parametrize("input_size", [(13,), (20, 5)])
def test_vectors_and_sequences(name, input_size):
    assert build_model(plan(name, input_size, 1))(torch.randn(3, *input_size)).shape == (3, 1)


@pytest.mark.parametrize("name", ["small_cnn", "resnet_small", "resnet18"])
def test_image_models_refuse_vectors(name):
    with pytest.raises(ComponentError, match="needs images, the data gives a vector of 13"):
        plan(name, (13,))


def test_autos_are_filled_and_stated_values_are_checked():
    assert plan("resnet18", (1, 64, 64)).options == {"num_classes": 7, "in_channels": 1}
    assert plan("resnet18", (1, 64, 64), num_classes=9).options["num_classes"] == 9
    with pytest.raises(ComponentError, match="the data has 7 classes or targets, num_classes is 5") as caught:
        plan("resnet18", num_classes=5)
    assert caught.value.option == "num_classes"
    with pytest.raises(ComponentError, match="the data has 1 channels, in_channels is 3"):
        plan("small_cnn", in_channels=3)


@pytest.mark.parametrize(
    ("name", "options", "words", "option"),
    [
        ("resnet19", {}, "Did you mean 'resnet", None),
        ("small_cnn", {"widht": 8}, "Did you mean 'width'", "widht"),
        ("resnet18", {"zero_init_residuals": True}, "Did you mean 'zero_init_residual'", "zero_init_residuals"),
        ("resnet18", {"progress": True}, "unknown key", "progress"),
        ("mobilenet_v2", {"width_mul": 0.5}, "Did you mean 'width_mult'", "width_mul"),
        ("mlp", {"layers": ["relu"]}, "layers belong to the model named layers", "layers"),
        ("resnet_small", {"depth": 21}, "depth must be 6n \\+ 2, got 21; the nearest are 20 and 26", "depth"),
        ("small_cnn", {"width": 0}, "width must be a whole number from 1", "width"),
        ("mlp", {"norm": "bach"}, "Did you mean 'batch'", "norm"),
        ("mlp", {"hidden": 128}, "hidden must be a list", "hidden"),
        ("lstm", {"dropout": 0.5}, "num_layers must be 2 or more", "dropout"),
    ],
)
def test_mistakes_name_the_option(name, options, words, option):
    with pytest.raises(ComponentError, match=words) as caught:
        build_model(plan(name, **options))
    assert caught.value.option == option


def test_a_value_of_the_wrong_kind_is_one_sentence():
    with pytest.raises(ComponentError, match="resnet18 cannot be built with"):
        build_model(Arch("torchvision", "resnet18", {"num_classes": "many"}))


@pytest.mark.parametrize("name", ["os:system", "torch:load", "ResNet", "../x", ""])
@pytest.mark.parametrize("registry", ["dlkit", "torchvision"])
def test_a_file_never_reaches_past_the_registry(registry, name):
    with pytest.raises(ComponentError, match="no "):
        build_model(Arch(registry, name, {}))


def test_registries_do_not_mix():
    with pytest.raises(ComponentError):
        build_model(Arch("dlkit", "resnet18", {}))
    with pytest.raises(ComponentError):
        build_model(Arch("torchvision", "mlp", {}))


def test_hostile_sizes_cost_nothing_on_meta():
    model = build_on_meta(Arch("torchvision", "resnet18", {"num_classes": 10**12}))
    assert model.fc.weight.shape == (10**12, 512)
    with pytest.raises(ComponentError, match="more than 2000 layers"):
        layers = [{"repeat": 10**6, "layers": [{"repeat": 10**6, "layers": ["relu"]}]}]
        build_on_meta(Arch("dlkit", "layers", {"layers": layers, "input_size": [4], "num_classes": 4}))


SOURCE = """
    from torch import nn
    class Net(nn.Module):
        def __init__(self, num_classes, hidden=8, *, in_channels):
            super().__init__()
            self.fc = nn.Linear(in_channels, num_classes)
    def make(input_size, wide=False):
        assert isinstance(input_size, tuple)
        return nn.Linear(input_size[0], 3)
    def not_a_model():
        return 3
    def broken():
        raise RuntimeError("no luck")
"""


@pytest.fixture
def user_file(tmp_path):
    path = tmp_path / "my_nets.py"
    path.write_text(textwrap.dedent(SOURCE))
    before = set(sys.modules)
    yield path
    for name in set(sys.modules) - before:
        if name.startswith("my_nets"):
            del sys.modules[name]


def test_a_users_class_gets_what_its_signature_takes(user_file):
    arch = plan(f"{user_file}:Net", (5,), hidden=4)
    assert arch.registry == "user"
    assert arch.options == {"hidden": 4, "num_classes": 7, "in_channels": 5}
    assert build_model(arch).fc.weight.shape == (7, 5)
    assert isinstance(build_model(plan(f"{user_file}:make", (5,), 3)), nn.Linear)


def test_a_users_class_is_never_built_unasked(user_file):
    arch = Arch("user", f"{user_file}:Net", {})
    with pytest.raises(ComponentError, match=r"--model .*my_nets.py:Net"):
        build_model(arch)
    assert not any(name.startswith("my_nets") for name in sys.modules)


@pytest.mark.parametrize(
    ("attribute", "options", "words"),
    [
        ("Net", {"hiden": 3}, "Did you mean 'hidden'"),
        ("not_a_model", {}, "gives a int; a torch.nn.Module is needed"),
        ("broken", {}, "cannot be built: RuntimeError: no luck"),
        ("Nett", {}, "Did you mean 'Net'"),
    ],
)
def test_mistakes_in_users_classes(user_file, attribute, options, words):
    with pytest.raises(ComponentError, match=words):
        build_model(plan(f"{user_file}:{attribute}", (5,), **options))
