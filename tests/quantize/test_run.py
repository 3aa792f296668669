"""The task from Python: what it gives, what it reports, and that a failure at any step leaves nothing behind."""

import pytest
import torch
from torch import nn

import dlkit as package
from dlkit.core.modelfile import read_model_file
from dlkit.core.staging import staged
from dlkit.errors import OutputError, UsageError
from dlkit.events import Note, Working
from dlkit.quantize import QuantizeRequest, check_request, match_modules, plan_paths, run_quantization

CONFIG = {
    "data": {"name": "digits", "batch_size": 64, "limit": 256},
    "model": {"name": "small_cnn", "width": 4},
    "train": {"epochs": 1},
    "log": {"tensorboard": False},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return package.train(CONFIG, out=tmp_path_factory.mktemp("run") / "run").model_path


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("dlkit.quantize.run.check_reload", lambda *_, **__: None)
    monkeypatch.setattr("dlkit.quantize.run.save_picture", lambda path, _: path.touch())


def test_the_outcome_and_the_events(model, quick, tmp_path):
    events = []
    request = QuantizeRequest("static", output=tmp_path / "int8.pt", num_calibration=64, seconds=None)
    outcome = run_quantization(read_model_file(model), request, events.append)
    assert outcome.made.num_calibration == 64 and outcome.coverage.num_int8 == len(outcome.coverage.layers) > 4
    assert {event.what for event in events if isinstance(event, Working)} >= {"calibrating", "correcting biases"}
    assert {path.name for path in tmp_path.iterdir()} == {"int8.pt", "int8.report.json", "int8.png"}
    spec = read_model_file(tmp_path / "int8.pt").spec
    assert spec.transforms[0]["op"] == "quantize" and spec.provenance["quantize"]["num_calibration"] == 64
    assert not outcome.notes and not [event for event in events if isinstance(event, Note)]


@pytest.mark.parametrize("step", ["save_quantized", "check_reload", "compare", "save_picture", "write_json"])
def test_a_failure_leaves_nothing(model, quick, tmp_path, monkeypatch, step):
    def fail(*_, **__):
        raise RuntimeError("on purpose")

    monkeypatch.setattr(f"dlkit.quantize.run.{step}", fail)
    request = QuantizeRequest("static", output=tmp_path / "int8.pt", num_calibration=32, seconds=None)
    with pytest.raises(RuntimeError, match="on purpose"):
        run_quantization(read_model_file(model), request)
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 3}, "--epochs belongs to --qat"),
        ({"lr": 0.1}, "--lr belongs to --qat"),
        ({"mode": "dynamic", "max_drop": 1.0}, "--max-drop belongs to --static"),
        ({"mode": "qat", "rank_layers": True}, "--sensitivity belongs to --static"),
    ],
)
def test_options_that_do_not_go_together(model, changes, words):
    with pytest.raises(UsageError, match=words):
        check_request(read_model_file(model), QuantizeRequest(**({"mode": "static"} | changes)))


def test_where_files_go(model, tmp_path):
    file = read_model_file(model)
    names = [path.name for path in plan_paths(file, QuantizeRequest("qat", exports=("onnx",))).listed()]
    assert names == ["model.qat-int8.pt", "model.qat-int8.report.json", "model.qat-int8.png", "model.qat-int8.onnx"]
    (tmp_path / "a.png").touch()
    with pytest.raises(OutputError, match=r"a\.png is there already"):
        plan_paths(file, QuantizeRequest("static", output=tmp_path / "a.pt"))
    assert plan_paths(file, QuantizeRequest("static", output=tmp_path / "a.pt", is_forced=True)).model.name == "a.pt"


def test_staged_files_appear_together(tmp_path):
    (tmp_path / "m.pt").write_text("old")
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "m.pt") as staging:
        staging.path(tmp_path / "m.pt").write_text("new")
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"] and (tmp_path / "m.pt").read_text() == "old"
    with staged(tmp_path / "m.pt") as staging:
        staging.path(tmp_path / "m.pt").write_text("new")
        staging.path(tmp_path / "m.png").write_text("picture")
        assert (tmp_path / "m.pt").read_text() == "old"
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == ["m.png", "m.pt"]
        and (tmp_path / "m.pt").read_text() == "new"
    )


def test_globs_over_modules():
    network = nn.Sequential(
        nn.ReLU(), nn.Conv2d(1, 2, 3), nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten()), nn.Linear(4, 2)
    )
    assert match_modules(network, ["first", "last"]) == ("1", "3")
    assert match_modules(network, ["2.*", "1", "1"]) == ("2.0", "2.1", "1")
    with pytest.raises(UsageError, match="no part of the network"):
        match_modules(network, ["layer*"])
