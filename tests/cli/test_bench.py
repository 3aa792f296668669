"""`dlkit bench`: what it prints, its JSON, and what it says of bad input."""

import json
import shlex
import sys
import tempfile
import warnings
from pathlib import Path

import onnx
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static

import dlkit as package
from dlkit.core.data import DataInfo
from dlkit.core.devices import torch_settings
from dlkit.core.modelfile import ModelSpec, read_model_file, save_model_file
from dlkit.core.models import Arch, build_model
from dlkit.quantize import Recipe, pick_reduce, save_quantized
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq import observe_network

EAGER = ("--engine", "eager", "--seconds", "0", "--batch", "1")
QUICK = ("--engine", "eager,frozen", "--seconds", "0")


def save_network(path, *, size=(1, 8, 8)):
    """A model file of a small network with random weights."""
    torch.manual_seed(0)
    arch = Arch("dlkit", "small_cnn", {"in_channels": size[0], "num_classes": 10, "input_size": size, "width": 8})
    info = DataInfo("classification", "image", size, 10, None, None, None)
    save_model_file(path, ModelSpec(arch, info), build_model(arch).state_dict())
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A float model file, its int8 form and its ONNX file, by those names."""
    folder = tmp_path_factory.mktemp("bench")
    path = save_network(folder / "float.pt")
    network, recipe, example = (
        package.load_model(path),
        Recipe("static", "x86", reduce=pick_reduce("x86")),
        torch.randn(4, 1, 8, 8),
    )
    converted = convert(observe_network(network, recipe, [example]), recipe)
    save_quantized(folder / "int8.pt", read_model_file(path).spec, converted, recipe=recipe, example=example)
    return {"float": path, "int8": folder / "int8.pt", "folder": folder}


@pytest.fixture(scope="module")
def onnx_file(files):
    """The float network as torch exports it, with a free batch."""
    path = files["folder"] / "float.onnx"
    shapes = ({0: torch.export.Dim("batch")},)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            package.load_model(files["float"]), (torch.randn(2, 1, 8, 8),), str(path), dynamo=True, dynamic_shapes=shapes,
            verbose=False,
        )  # fmt: skip
    return path


def test_tables_of_float_and_int8(dlkit, files):
    done = dlkit("bench", files["float"], files["int8"], *QUICK, "--batch", "1,3", "--threads", 1)
    assert done.code == 0, done.err
    for text in ("1 of", "threads", f"torch {torch.__version__}", "inputs of 1x8x8, random", "baseline: ", "batch 1", "batch 3",
                 "float.pt", "int8.pt", "frozen", "x base", "int8.pt: batch 1: int8 by"):  # fmt: skip
        assert text in done.out, text


@pytest.mark.parametrize("engine", ["onnx", "openvino", "frozen", "eager"])
def test_the_fastest_runs_as_told(dlkit, files, engine, tmp_path):
    model = tmp_path / "net.pt"
    model.write_bytes(files["int8"].read_bytes())
    done = dlkit("bench", model, "--engine", engine, "--seconds", "0", "--batch", "2", "--threads", 1)
    lines = done.out[done.out.index("fastest here:") :].splitlines()
    assert lines[1].startswith(f"  batch 2: net.pt by {engine}, ") and lines[3] == f"to run net.pt by {engine}:"
    if engine in ("onnx", "openvino"):
        command = shlex.split(lines[4])
        assert command[:2] == ["dlkit", "export"] and dlkit(*command[1:]).code == 0
    inputs = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    names = {"inputs": inputs.numpy() if engine in ("onnx", "openvino") else inputs}
    with torch_settings(threads=torch.get_num_threads()):  # puts back what the lines set
        exec("\n".join(line.strip() for line in lines[4:] if not line.strip().startswith("dlkit ")), names)
        wanted = package.load_model(model)(inputs)
    torch.testing.assert_close(torch.as_tensor(names["logits"]), wanted, rtol=0, atol=0.03 * wanted.abs().max().item())


def test_the_fastest_among_models(dlkit, files):
    options = ("--engine", "eager,frozen", "--seconds", "0", "--batch", "1,4", "--json")
    found = json.loads(dlkit("bench", files["float"], files["int8"], *options).out)
    for one in found["fastest"]:
        rows = sorted((row for row in found["rows"] if row["batch"] == one["batch"]), key=lambda row: row["median_ms"])
        assert (one["model"], one["engine"]) == (rows[0]["model"], rows[0]["engine"])
        assert one["runner_up"] == [rows[1]["model"], rows[1]["engine"]]
        assert one["is_clear"] == (one["lead"]["p10"] > 1.0) and one["program"] is None
    assert [one["batch"] for one in found["fastest"]] == [1, 4]


def test_json(dlkit, files):
    done = dlkit("bench", files["float"], files["int8"], *QUICK, "--batch", 2, "--json")
    found = json.loads(done.out)
    assert found["schema"] == "dlkit.bench/1" and done.code == 0
    assert set(found) == {
        "schema", "machine", "input", "files", "baseline", "fastest_float", "fastest", "rows", "skipped", "notes"
    }  # fmt: skip
    assert found["input"] == {"size": [1, 8, 8], "data": "standard normal numbers, seed 0"}
    assert set(found["machine"]) == {
        "cpu",
        "int8_instructions",
        "cores",
        "threads",
        "device",
        "torch",
        "onnxruntime",
        "openvino",
    }
    assert [(file["is_int8"], file["bytes"]) for file in found["files"]] == [
        (False, files["float"].stat().st_size), (True, files["int8"].stat().st_size)
    ]  # fmt: skip
    assert [(row["model"], row["engine"]) for row in found["rows"]] == [
        (str(files[name]), engine) for name in ("float", "int8") for engine in ("eager", "frozen")
    ]
    for row in found["rows"]:
        assert 0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"] and row["runs"] >= 10 and row["batch"] == 2
        assert row["samples_per_s"] == pytest.approx(2000 / row["median_ms"])
        assert row["to_baseline"]["median"] > 0 and row["difference_to_eager"]["agreement"] == 1.0


def test_threads_are_put_back(dlkit, files):
    before = torch.get_num_threads()
    done = dlkit("bench", files["float"], *EAGER, "--threads", 2, "--json")
    assert json.loads(done.out)["machine"]["threads"] == 2 and torch.get_num_threads() == before
    assert dlkit("bench", files["float"], *EAGER, "--threads", 2, "--input", "3x8x8").code == 2
    assert torch.get_num_threads() == before


def test_onnx_files(dlkit, files, onnx_file):
    done = dlkit("bench", onnx_file, files["float"], *QUICK, "--batch", "1,2", "--baseline", files["float"], "--json")
    found = json.loads(done.out)
    assert done.code == 0, done.err
    assert {(row["model"], row["engine"]) for row in found["rows"]} == {
        (str(onnx_file), "onnx"), (str(files["float"]), "eager"), (str(files["float"]), "frozen")
    }  # fmt: skip
    assert found["rows"][0]["difference_to_eager"] is None and not found["files"][0]["is_int8"]
    assert found["baseline"] == {"model": str(files["float"]), "engine": "eager"}


class Batches(CalibrationDataReader):
    """Two batches for an input of that name."""

    def __init__(self, name):
        self.left = [{name: torch.randn(4, 1, 8, 8).numpy()} for _ in range(2)]

    def get_next(self):
        return self.left.pop() if self.left else None


def test_float_and_int8_files_in_openvino(dlkit, files, onnx_file):
    """An int8 file that others made: in QDQ form, by ONNX Runtime."""
    int8_file = files["folder"] / "int8.onnx"
    (name,) = (node.name for node in onnx.load(onnx_file).graph.input)
    quantize_static(onnx_file, int8_file, Batches(name))
    engines = ("--engine", "eager,onnx,openvino", "--seconds", "0")
    done = dlkit("bench", files["float"], onnx_file, int8_file, *engines, "--batch", "1,3", "--json")
    found = json.loads(done.out)
    assert done.code == 0 and not found["skipped"], done.err
    assert [(row["model"], row["engine"], row["is_int8"]) for row in found["rows"][: len(found["rows"]) // 2]] == [
        *((str(files["float"]), engine, False) for engine in ("eager", "onnx", "openvino")),
        *((str(onnx_file), engine, False) for engine in ("onnx", "openvino")),
        *((str(int8_file), engine, True) for engine in ("onnx", "openvino")),
    ]
    assert found["rows"][2]["difference_to_eager"]["relative"] < 1e-4 and found["machine"]["openvino"]


def test_another_input_size(dlkit, files):
    done = dlkit("bench", files["float"], *QUICK, "--batch", 1, "--input", "1x16x16", "--json")
    assert done.code == 0 and json.loads(done.out)["input"]["size"] == [1, 16, 16]


def test_engines_that_do_not_run_are_listed_with_the_reason(dlkit, files, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    done = dlkit("bench", files["int8"], "--engine", "eager,compile,onnx,openvino", "--seconds", "0", "--batch", 1)
    assert done.code == 0 and "not measured:" in done.out
    assert "int8.pt by compile: it needs a C++ compiler" in done.out
    assert "int8.pt by onnx: ONNX Runtime is not installed: pip install 'dlkit[onnx]'" in done.out
    assert "int8.pt by openvino: OpenVINO is not installed: pip install 'dlkit[openvino]'" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--engine", "eagr"], "no engine 'eagr'. Did you mean 'eager'? Engines: eager, channels_last, compile, frozen, onnx, openvino, aoti"),
     (["--batch", "0"], "--batch 0: give whole numbers of at least 1"),
     (["--batch", "1,x"], "--batch 1,x: give whole numbers"),
     (["--input", "3xax2"], "--input '3xax2' is not a size"),
     (["--input", "0x8x8"], "--input 0x8x8: every size must be at least 1"),
     (["--input", "3x8x8"], "does not run on inputs of 1x3x8x8"),
     (["--baseline", "other.pt"], "--baseline other.pt: not one of the models"),
     (["--device", "cuda:99"], "no device 'cuda:99'")],
)  # fmt: skip
def test_bad_options(dlkit, files, arguments, words):
    options = {"--engine": "eager", "--batch": "1", "--seconds": "0"}
    options.update(zip(arguments[::2], arguments[1::2], strict=True))
    done = dlkit("bench", files["float"], *(word for pair in options.items() for word in pair))
    assert done.code == 2 and words in done.err and not done.out


@pytest.fixture
def short_folder(monkeypatch):
    """The current folder, with a path that fits into a table."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.chdir(folder)
        yield Path(folder)


def test_names_are_as_short_as_they_can_be(dlkit, short_folder):
    paths = [Path("runs") / name / "model.pt" for name in "ab"]
    for path in paths:
        path.parent.mkdir(parents=True)
        save_network(path)

    def names(*paths):
        rows = dlkit("bench", *paths, *EAGER).out.partition("batch 1\n")[2].splitlines()[1:]
        return [row.split()[0] for row in rows[: len(paths)]]

    assert names(*paths) == ["a/model.pt", "b/model.pt"]
    assert names(short_folder / paths[0]) == ["model.pt"]
    mixed = [short_folder / paths[0], paths[1]]
    assert names(*mixed) == [str(path) for path in mixed]


def test_a_model_named_twice(dlkit, files):
    done = dlkit("bench", files["float"], files["float"])
    assert done.code == 2 and "is named twice" in done.err


def test_models_of_different_inputs(dlkit, files, tmp_path):
    done = dlkit("bench", files["float"], save_network(tmp_path / "wide.pt", size=(3, 16, 16)), *QUICK)
    assert done.code == 2 and "take different inputs" in done.err
    assert "float.pt 1x8x8" in done.err and "wide.pt 3x16x16" in done.err


def test_nothing_could_run(dlkit, files, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    done = dlkit("bench", files["int8"], "--engine", "compile")
    assert done.code == 2 and "nothing could be run" in done.err and "needs a C++ compiler" in done.err


@pytest.mark.parametrize("name", ["missing.pt", "text.pt", "missing.onnx", "text.onnx"])
def test_files_that_are_refused(dlkit, tmp_path, name):
    (tmp_path / "text.pt").write_text("no model")
    (tmp_path / "text.onnx").write_text("no model")
    done = dlkit("bench", tmp_path / name, *QUICK)
    assert done.code == 4 and name in done.err and not done.out


def test_int8_stays_on_the_cpu(dlkit, files):
    done = dlkit("bench", files["int8"], *QUICK, "--batch", 1, "--device", "cuda:99")
    assert done.code == 0 and "int8 networks and .onnx files run on the CPU only" in done.err
