"""ONNX files with free height and width: equal to the network at other sizes, float and int8, and what is refused."""

import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from torch import nn

from dlkit.core.data import DataInfo
from dlkit.core.export import ExportOptions, export_model, export_onnx, find_free_size
from dlkit.core.modelfile import ModelSpec, build_from_file, read_model_file, save_model_file
from dlkit.core.models import Arch, build_model
from dlkit.errors import UsageError
from dlkit.quantize import Recipe
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq import observe_network

RECIPE = Recipe("static", "x86", reduce="weights")


class Ladder(nn.Module):
    """Down by two and up again by a transposed convolution, joined with what was there; at the end resized to the input's size."""

    def __init__(self):
        super().__init__()
        self.down, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.up, self.head = nn.ConvTranspose2d(8, 8, 2, stride=2), nn.Conv2d(16, 5, 1, stride=2)

    def forward(self, x):
        y = self.down(x).relu()
        y = torch.cat([y, self.up(self.inner(y).relu())], 1)
        return nn.functional.interpolate(self.head(y), size=x.shape[-2:], mode="bilinear")


def spec_of(arch, kind="image", size=(3, 16, 12)):
    return ModelSpec(
        arch,
        DataInfo(
            "classification",
            kind,
            size,
            5,
            None,
            (0.5,) * size[0 if kind == "image" else -1],
            (0.2,) * size[0 if kind == "image" else -1],
        ),
    )


def largest_difference(path, network, *sizes):
    session, largest = InferenceSession(path), 0.0
    for size in sizes:
        inputs = torch.randn(2, 3, *size)
        with torch.no_grad():
            expected = network(inputs)
        (found,) = session.run(None, {"input": inputs.numpy()})
        largest = max(largest, float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max()))
    return largest


def test_sizes_are_multiples_of_what_the_network_halves(tmp_path):
    torch.manual_seed(0)
    network = Ladder().eval()
    free = find_free_size(network, spec_of(Arch("user", "Ladder", {})))
    assert free.step == 2 and "multiples of 2; checked at 18x18, 20x12 too" in free.words
    with torch.no_grad():
        int8 = convert(observe_network(network, RECIPE, [torch.randn(8, 3, 16, 12)]), RECIPE)
    for each, most in ((network, 1e-5), (int8, 0.05)):
        export_onnx(each, tmp_path / "net.onnx", torch.zeros(2, 3, 16, 12), free=free)
        graph = onnx.load(tmp_path / "net.onnx").graph
        shapes = [
            [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
            for one in (*graph.input, *graph.output)
        ]
        assert shapes == [["batch", 3, "height", "width"], ["batch", 5, "height", "width"]]
        assert largest_difference(tmp_path / "net.onnx", each, (16, 12), (30, 34), (8, 64), (130, 6)) < most


def saved(folder, arch, spec):
    torch.manual_seed(0)
    save_model_file(folder / "model.pt", spec, build_model(arch).state_dict())
    return read_model_file(folder / "model.pt")


CNN = Arch("dlkit", "small_cnn", {"in_channels": 3, "num_classes": 5, "input_size": [3, 16, 12], "width": 4})


def test_a_classifier_takes_any_size_and_normalizes(tmp_path):
    file = saved(tmp_path, CNN, spec_of(CNN))
    options = ExportOptions(normalizes=True, has_free_size=True)
    exported = export_model(file, "onnx", tmp_path / "net.onnx", options=options)
    assert "(N, 3, height, width)" in exported.loading[-1] and "any height and width" in exported.notes[-1]
    network = build_from_file(file).eval()
    normalized = nn.Sequential(Normalize(), network)
    assert largest_difference(tmp_path / "net.onnx", normalized, (17, 15), (40, 9)) < 1e-5


class Normalize(nn.Module):
    def forward(self, x):
        return (x - 0.5) / 0.2


MLP = Arch("dlkit", "mlp", {"input_size": [3, 16, 12], "num_classes": 5, "hidden": [4]})
LSTM = Arch("dlkit", "lstm", {"input_size": [6, 4], "num_classes": 5, "hidden_size": 8})


@pytest.mark.parametrize(("arch", "spec", "options", "message"), [
    (MLP, spec_of(MLP), {}, "takes images of 16x12 alone"),
    (LSTM, spec_of(LSTM, "sequence", (6, 4)), {}, "takes sequence, no images"),
    (CNN, spec_of(CNN), {"resizes": True}, "leave one of them out"),
])  # fmt: skip
def test_what_is_refused(arch, spec, options, message, tmp_path):
    file = saved(tmp_path, arch, spec)
    with pytest.raises(UsageError, match=message):
        export_model(file, "onnx", tmp_path / "net.onnx", options=ExportOptions(**options, has_free_size=True))
    with pytest.raises(UsageError, match="--dynamic-size belongs to --format onnx"):
        export_model(file, "pt2", tmp_path / "net.pt2", options=ExportOptions(has_free_size=True))
    assert not (tmp_path / "net.onnx").exists()
