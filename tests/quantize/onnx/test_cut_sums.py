"""Int8 ONNX files on CPUs that cut off large sums: judged by exact arithmetic, written, and warned of.

Such a CPU is simulated by a runtime that makes signed weights smaller and leaves unsigned ones.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from dlkit.core.export import export_onnx, start_session
from dlkit.errors import DlkitError
from dlkit.quantize import Recipe, quantize_dynamic
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq import observe_network

SESSION = onnxruntime.InferenceSession
NEEDS_EXACT_SUMS = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this CPU is what is simulated here")


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.LSTM(6, 10, num_layers=2, batch_first=True), nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


def dynamic():
    torch.manual_seed(0)
    batch = torch.randn(5, 7, 6)
    return quantize_dynamic(Recurrent().eval(), Recipe("dynamic", "x86")), batch


def static(reduce="none"):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.LazyLinear(4)
    )
    batch, recipe = torch.randn(4, 3, 8, 8), Recipe("static", "x86", reduce=reduce)
    net.eval()(batch)
    return convert(observe_network(net, recipe, [batch]), recipe), batch


def halved(model):
    for item in model.graph.initializer:
        if item.data_type == TensorProto.INT8:
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) // np.int8(2), item.name))
    return model.SerializeToString()


def simulate(monkeypatch, *, spoils):
    """Let ONNX Runtime get sums of signed weights wrong in the files that `spoils` picks."""

    def start(source, *arguments, **options):
        model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
        return SESSION(halved(model) if spoils(model) else source, *arguments, **options)

    monkeypatch.setattr("onnxruntime.InferenceSession", start)


def is_probe(model):
    return model.graph.name == "largest sum"


@pytest.fixture
def on_an_old_cpu(monkeypatch):
    simulate(monkeypatch, spoils=lambda model: True)


@NEEDS_EXACT_SUMS
@pytest.mark.parametrize("build", [dynamic, static])
def test_unsigned_weights_have_the_same_numbers(build, tmp_path, monkeypatch):
    network, batch = build()
    as_ever = export_onnx(network, tmp_path / "as-ever.onnx", batch, inputs=batch)
    simulate(monkeypatch, spoils=is_probe)
    parity = export_onnx(network, tmp_path / "net.onnx", batch, inputs=batch)
    assert (tmp_path / "net.onnx").read_bytes() == (tmp_path / "as-ever.onnx").read_bytes()
    assert parity.max_abs == pytest.approx(parity.max_abs_here, abs=0.01 * parity.output_max)
    assert parity.cpu_note is None and as_ever.max_abs_here is None


@NEEDS_EXACT_SUMS
@pytest.mark.parametrize("build", [dynamic, static])
def test_a_right_file_is_written_where_this_cpu_computes_it_wrongly(build, tmp_path, on_an_old_cpu, monkeypatch):
    network, batch = build()
    parity = export_onnx(network, tmp_path / "net.onnx", batch, inputs=batch)
    assert parity.max_abs < 0.05 * parity.output_max < parity.max_abs_here
    assert "has no VNNI" in parity.cpu_note
    monkeypatch.setattr("onnxruntime.InferenceSession", SESSION)
    exact = start_session(tmp_path / "net.onnx").run(None, {"input": batch.numpy()})[0]
    assert np.abs(exact - network(batch).numpy()).max() < 0.05 * parity.output_max


def test_a_wrong_file_is_refused_there_too(tmp_path, on_an_old_cpu):
    network, batch = static()
    network.get_submodule("0").register_forward_hook(lambda layer, inputs, output: 255 - output)
    with pytest.raises(DlkitError, match="differs"):
        export_onnx(network, tmp_path / "net.onnx", batch, inputs=batch)


def test_weights_of_seven_bits_lose_nothing_anywhere(tmp_path, monkeypatch):
    simulate(monkeypatch, spoils=is_probe)
    network, batch = static(reduce="weights")
    assert export_onnx(network, tmp_path / "net.onnx", batch, inputs=batch).max_abs_here is None
