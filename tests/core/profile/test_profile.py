"""What a model costs, against torch's own FLOP counter, hand-made arithmetic and gradients."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dlkit.core.components import ComponentError
from dlkit.core.data import DataInfo
from dlkit.core.modelfile import ModelSpec, save_model_file
from dlkit.core.models import Arch, build_model
from dlkit.core.profile import (
    InputSpec,
    ModelProfile,
    ProfileError,
    measure_peak_bytes,
    measure_saved_bytes,
    model_from,
    output_shape,
    profile_model,
    trace_fields,
)
from dlkit.errors import FileRefused

CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)


def profile(name: str) -> ModelProfile:
    source = model_from(name)
    assert source.inputs
    return profile_model(source.model, source.inputs, with_memory=False)


def flops(model: nn.Module, *inputs: torch.Tensor) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model.eval()(*inputs)
    return counter.get_total_flops()


def on_meta(model: nn.Module) -> nn.Module:
    return model.to("meta")


def check_equals_flop_counter(name: str) -> None:
    source = model_from(name)
    assert source.inputs
    found = profile_model(source.model, source.inputs, with_memory=False)
    assert 2 * found.macs == flops(source.model, source.inputs[0].on_meta(1))
    assert found.uncounted == {}


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "swin_t", "vit_b_32", "googlenet", "regnet_y_400mf"]
)
def test_macs_equal_torchs_flop_counter(name: str) -> None:
    check_equals_flop_counter(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_macs_of_every_torchvision_classifier_equal_torchs_flop_counter(name: str) -> None:
    check_equals_flop_counter(name)


def test_published_macs_and_parameters() -> None:
    resnet = profile("resnet50")
    assert (resnet.macs, resnet.num_parameters) == (4_089_184_256, 25_557_032)
    assert round(profile("vgg16").macs / 1e9, 2) == 15.47


def test_attention_products_are_counted_and_told_apart() -> None:
    vit = profile("vit_b_16")
    # 12 layers of 12 heads: 197 x 197 scores of 64 numbers, and as many again times the values
    assert vit.attention_macs == 12 * 12 * 197 * 197 * 64 * 2
    assert round(vit.macs / 1e9, 2) == 17.56
    # fvcore says 16.87 because it adds the norms; the products with weights alone are 16.85
    assert round((vit.macs - vit.attention_macs) / 1e9, 2) == 16.85


class Attention(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, k)


class ComputedWeights(nn.Module):
    """A convolution and a linear layer whose weights are computed, and views that are made in place."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.matrix = nn.Parameter(torch.ones(4, 3, 3, 3)), nn.Parameter(torch.ones(4, 5))
        self.recurrent = nn.GRU(5, 6, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = F.conv2d(x, self.kernel - self.kernel.mean())
        rows = maps.mean(3).transpose_(1, 2).unsqueeze_(0).squeeze_(0).swapaxes_(0, 1).swapaxes_(0, 1)
        out: torch.Tensor = self.recurrent(rows @ (self.matrix * 2))[0]
        return out


def test_computed_weights_are_no_attention_and_views_in_place_are_free() -> None:
    found = profile_model(on_meta(ComputedWeights()), [InputSpec((3, 8, 8))])
    recurrent = 2 * 6 * (3 * 6 * (5 + 6))
    assert found.macs == 36 * 27 * 4 + 6 * 4 * 5 + recurrent
    assert found.attention_macs == 0 and not found.uncounted


def test_a_functional_attention_is_counted() -> None:
    found = profile_model(Attention(), [InputSpec((4, 10, 16)), InputSpec((4, 7, 16))], batch=3)
    assert found.macs == found.attention_macs == 3 * 4 * 10 * 7 * (16 + 16)


def test_transposed_convolutions_count_input_positions() -> None:
    model = on_meta(nn.ConvTranspose2d(6, 8, 4, 2, 1, groups=2))
    found = profile_model(model, [InputSpec((6, 5, 7))], batch=2)
    assert found.macs == 2 * 5 * 7 * 6 * 8 // 2 * 16
    assert 2 * found.macs == flops(model, torch.empty(2, 6, 5, 7, device="meta"))


class Outer(nn.Module):
    """An LSTM, an embedding, a matrix product, and an operator that has no formula."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 8)
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.bilinear = nn.Bilinear(16, 16, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out, _ = self.lstm(self.table(tokens))
        return self.bilinear(out, out) @ torch.ones(4, 3, device=out.device)


def test_an_operator_without_a_formula_is_listed() -> None:
    found = profile_model(on_meta(Outer()), [InputSpec((5,), torch.int64)], batch=2)
    assert found.uncounted == {"aten::_trilinear": 1}
    lstm = next(layer for layer in found.layers if layer.path == "lstm")
    assert lstm.macs == 2 * 5 * 4 * 16 * (8 + 16)
    assert next(layer for layer in found.layers if layer.path == "table").macs == 0
    assert found.macs == lstm.macs + 2 * 5 * 4 * 3


def test_rows_hold_what_is_inside_and_shared_weights_count_once() -> None:
    shared = nn.Linear(8, 8)
    model = on_meta(nn.Sequential(nn.Sequential(shared, nn.ReLU()), shared, nn.Linear(8, 2)))
    found = profile_model(model, [InputSpec((8,))])
    rows = {layer.path: layer for layer in found.layers}
    assert found.num_parameters == 8 * 8 + 8 + 8 * 2 + 2
    assert rows["0.0"].calls == 2
    assert rows["0"].macs == rows["0.0"].macs / 2 == 64
    assert found.macs == 2 * 64 + 16
    assert rows["2"].out_shape == (1, 2)


def test_the_model_is_left_as_it_was() -> None:
    model = on_meta(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).train()
    model[1].eval()
    profile_model(model, [InputSpec((3, 8, 8))])
    assert (model.training, model[1].training) == (True, False)
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks


def test_saved_bytes_are_those_of_a_real_backward_pass() -> None:
    model = nn.Sequential(nn.Linear(10, 20), nn.Sigmoid(), nn.Linear(20, 5), nn.ReLU(), nn.Linear(5, 3))
    # input (3x10), sigmoid's output = second input (3x20), relu's output = third input (3x5), float32
    expected = 4 * 3 * (10 + 20 + 5)
    assert measure_saved_bytes(model, [torch.zeros(3, 10)]) == expected
    assert measure_saved_bytes(on_meta(model), [torch.empty(3, 10, device="meta")]) == expected


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "swin_t"])
def test_saved_bytes_on_meta_equal_those_on_the_cpu(name: str) -> None:
    real = torchvision.models.get_model(name).train()
    with torch.random.fork_rng():
        saved = measure_saved_bytes(real, [torch.zeros(2, 3, 64, 64)])
    assert measure_saved_bytes(model_from(name).model.train(), [torch.empty(2, 3, 64, 64, device="meta")]) == saved


def test_the_peak_is_the_most_that_is_alive_at_once() -> None:
    model = on_meta(nn.Sequential(nn.Linear(10, 1000), nn.Linear(1000, 10), nn.Linear(10, 500)))
    x = torch.empty(1, 10, device="meta")
    # the input stays alive in the caller; 1000 and 10 numbers are the largest neighbours
    assert measure_peak_bytes(model, [x]) == 4 * (10 + 1000 + 10)


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(100, 10), nn.Linear(10, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(x)
        return self.up(self.down(y)) + y


def test_a_skip_connection_is_kept_alive() -> None:
    # input and kept copy, then the output of `up`, and its sum
    assert measure_peak_bytes(on_meta(Skip()), [torch.empty(1, 100, device="meta")]) == 4 * 4 * 100


def test_training_memory_adds_up() -> None:
    model = on_meta(nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 5)))
    model[0].weight.requires_grad = False
    found = profile_model(model, [InputSpec((10,))], batch=4)
    weights, trainable = 4 * (220 + 105), 4 * (20 + 105)
    assert found.saved_bytes == 4 * 4 * 20  # the frozen weight needs no input for its gradient
    assert found.training_bytes(optimizer_states=2) == weights + 3 * trainable + found.saved_bytes


class ReadsValues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum().item() > 0 else -x


def test_a_model_that_reads_values_is_refused_in_words() -> None:
    with pytest.raises(ProfileError, match="does not run on meta tensors of 3x8x8"):
        profile_model(ReadsValues(), [InputSpec((3, 8, 8))])
    with pytest.raises(ProfileError, match="3x8x8"):
        profile_model(on_meta(nn.Linear(5, 5)), [InputSpec((3, 8, 8))])


def test_sizes_that_a_model_refuses() -> None:
    alexnet = model_from("alexnet").model
    assert output_shape(alexnet, (3, 62, 62)) is None
    assert output_shape(alexnet, (3, 63, 63)) == (2, 1000)


def test_models_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(
        "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self):\n        super().__init__(4, 2)\n"
    )
    source = model_from(f"{file}:Net")
    assert source.inputs is None
    assert profile_model(source.model, [InputSpec((4,))]).macs == 8
    assert all(parameter.device.type == "meta" for parameter in model_from("regnet_y_400mf").model.parameters())
    with pytest.raises(ComponentError, match="has no 'Nett'"):
        model_from(f"{file}:Nett")


def test_models_come_from_model_files_and_configs(tmp_path: Path) -> None:
    config = tmp_path / "cfg.yaml"
    config.write_text("data: {name: digits}\nmodel: small_cnn\ntrain: {epochs: 1, max_steps: 1}\n")
    from_config = model_from(str(config))
    assert from_config.inputs == (InputSpec((1, 8, 8)),)
    assert all(parameter.is_meta for parameter in from_config.model.parameters())
    arch = Arch("dlkit", "mlp", {"input_size": [1, 8, 8], "num_classes": 10, "hidden": [16]})
    info = DataInfo("classification", "image", (1, 8, 8), 10, None, None, None)
    file = tmp_path / "model.pt"
    network = build_model(arch)
    save_model_file(file, ModelSpec(arch, info), network.state_dict())
    from_file = model_from(str(file))
    assert profile_model(from_file.model, from_file.inputs or ()).macs == 64 * 16 + 16 * 10
    with pytest.raises(FileRefused):
        model_from(str(config.rename(tmp_path / "cfg.pt")))


def test_dlkits_own_networks_take_the_sizes_given() -> None:
    source = model_from("small_cnn", given={"input_size": (1, 8, 8), "in_channels": 1, "num_classes": 10})
    assert output_shape(source.model, (1, 8, 8)) == (2, 10)
    with pytest.raises(ComponentError, match="Did you mean 'resnet18'"):
        model_from("resnet118")


class Mixed(nn.Module):
    """Branches, a permutation to channels-last, slices, an upsampling and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, 2, 1)
        self.norm = nn.LayerNorm(4)
        self.mix = nn.Linear(4, 4)
        self.wide = nn.Conv2d(4, 4, 5, 2, 2, groups=2)
        self.narrow = nn.AvgPool2d(2)
        self.up = nn.Upsample(scale_factor=2)
        self.last = nn.Conv2d(12, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.mix(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        both = torch.cat([self.wide(x), self.narrow(x)], dim=1)
        up = self.up(both)[:, :, :, :]
        return self.last(torch.cat([up, F.relu(x)], dim=1))


def touched(model: nn.Module, place: int, size: int) -> int:
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    model.norm = nn.Identity()  # type: ignore[assignment]  # its gradient cancels
    x = torch.rand(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    model.double()(x)[0, 0, place, place].backward()
    return int((x.grad[0, 0].abs().sum(0) > 0).sum())


def test_receptive_fields_of_a_branching_model_equal_gradients() -> None:
    size = 64
    last = trace_fields(on_meta(Mixed()).eval(), torch.empty(1, 1, size, size, device="meta"))[-1]
    assert last.path == "last"
    assert last.jumps == (2.0, 2.0)
    assert last.sizes[0] == max(touched(Mixed(), place, size) for place in range(12, 18))


# google's RECEPTIVE_FIELD_TABLE.md for the nets that torchvision builds alike; ResNet-50 strides elsewhere (v1.5)
@pytest.mark.parametrize(
    ("name", "path", "size"),
    [
        ("vgg16", "features.24", 132),
        ("vgg16", "features.26", 164),
        ("vgg16", "features.30", 212),
        ("alexnet", "features.12", 195),
        ("inception_v3", "Mixed_7c", 1311),
        ("resnet50", "layer4", 427),
        ("mobilenet_v2", "features", 491),
    ],
)
def test_receptive_fields_equal_published_ones(name: str, path: str, size: int) -> None:
    source = model_from(name)
    assert source.inputs
    fields = {field.path: field for field in trace_fields(source.model.eval(), source.inputs[0].on_meta(1))}
    assert fields[path].sizes == (size, size)
    assert list(fields.values())[-1].is_all


class AttendsToPatches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.patches(x).flatten(2).transpose(1, 2)
        return self.attention(rows, rows, rows, need_weights=False)[0]


def test_attention_and_squeezing_see_everything() -> None:
    fields = trace_fields(on_meta(AttendsToPatches()).eval(), torch.empty(1, 3, 32, 32, device="meta"))
    assert {field.path: (field.sizes, field.is_all) for field in fields}["patches"] == ((4, 4), False)
    assert fields[-1].is_all
    squeezing = trace_fields(model_from("efficientnet_b0").model.eval(), torch.empty(1, 3, 224, 224, device="meta"))
    assert {field.path: field.is_all for field in squeezing}["features.1"]


def test_places_that_get_lost_are_said_to_be() -> None:
    fields = trace_fields(model_from("vit_b_32").model.eval(), torch.empty(1, 3, 224, 224, device="meta"))
    assert fields[0].sizes == (32, 32)
    assert (fields[-1].lost_at, fields[-1].is_all) == ("cat", False)  # the class token
