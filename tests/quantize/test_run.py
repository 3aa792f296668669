"""The task from Python: what it gives and what it reports."""

import pytest
import torch

import dlkit as package
from dlkit.core.modelfile import read_model_file
from dlkit.events import Note, Working
from dlkit.quantize import QuantizeRequest, run_quantization

CONFIG = {
    "data": {"name": "digits", "batch_size": 64, "limit": 256},
    "model": {"name": "small_cnn", "width": 4},
    "train": {"epochs": 1},
    "log": {"tensorboard": False},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return package.train(CONFIG, out=tmp_path_factory.mktemp("run") / "run").model_path


def test_the_outcome_and_the_events(model, quick, tmp_path):
    events = []
    request = QuantizeRequest("static", output=tmp_path / "int8.pt", num_calibration=64, seconds=None)
    outcome = run_quantization(read_model_file(model), request, events.append)
    assert outcome.made.num_calibration == 64 and outcome.coverage.num_int8 == len(outcome.coverage.layers) > 4
    assert {event.what for event in events if isinstance(event, Working)} >= {"calibrating", "correcting biases"}
    assert {path.name for path in tmp_path.iterdir()} == {"int8.pt", "int8.report.json", "int8.png"}
    spec = read_model_file(tmp_path / "int8.pt").spec
    assert spec.transforms[0]["op"] == "quantize" and spec.provenance["quantize"]["num_calibration"] == 64
    notes = [*outcome.notes, *(event.text for event in events if isinstance(event, Note))]
    assert not [note for note in notes if not note.startswith("This CPU")]


def test_the_float_network_of_the_comparison_is_the_one_of_the_file(model, quick, tmp_path):
    request = QuantizeRequest("static", output=tmp_path / "int8.pt", num_calibration=32, seconds=None)
    outcome = run_quantization(read_model_file(model), request)
    before = package.load_model(model).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in outcome.task.network.state_dict().items())


def test_onnx_beside_it(model, quick, tmp_path):
    pytest.importorskip("onnxruntime")
    request = QuantizeRequest(
        "static", output=tmp_path / "int8.pt", num_calibration=64, seconds=None, exports=("onnx",)
    )
    outcome = run_quantization(read_model_file(model), request)
    assert (tmp_path / "int8.onnx").is_file() and outcome.parity is not None and outcome.parity.agreement >= 0.9
