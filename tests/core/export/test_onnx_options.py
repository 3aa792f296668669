"""ONNX files that resize, and those for other versions of the operators: that they compute what dlkit does, and what is refused."""

from dataclasses import replace

import onnx
import onnxruntime
import pytest
import torch

from dlkit.core.data import DataInfo, prepare_image
from dlkit.core.export import ExportOptions, export_model
from dlkit.core.modelfile import ModelSpec, build_from_file, read_model_file, save_model_file
from dlkit.core.models import Arch, build_model
from dlkit.errors import UsageError

SIZE = (3, 20, 16)
CNN = Arch("dlkit", "small_cnn", {"in_channels": 3, "num_classes": 4, "input_size": list(SIZE), "width": 4})
LSTM = Arch("dlkit", "lstm", {"input_size": [6, 4], "num_classes": 4, "hidden_size": 8})


@pytest.fixture
def cnn(tmp_path):
    info = DataInfo("classification", "image", SIZE, 4, None, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
    return saved(tmp_path, CNN, info)


@pytest.fixture
def lstm(tmp_path):
    return saved(tmp_path, LSTM, DataInfo("classification", "sequence", (6, 4), 4, None, (0.0,) * 4, (1.0,) * 4))


def saved(folder, arch, info):
    torch.manual_seed(0)
    save_model_file(folder / "model.pt", ModelSpec(arch, info), build_model(arch).state_dict())
    return read_model_file(folder / "model.pt")


def run(path, inputs):
    return torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {"input": inputs.numpy()})[0])


@pytest.mark.parametrize("normalizes", [True, False])
def test_pictures_of_any_size_come_out_as_dlkit_prepares_them(cnn, tmp_path, normalizes):
    exported = export_model(cnn, "onnx", tmp_path / "net.onnx", options=ExportOptions(normalizes, resizes=True))
    assert "(N, 3, height, width)" in exported.loading[-1]
    network, info = build_from_file(cnn).eval(), cnn.spec.info
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (info.mean, info.std))
    for height, width in ((20, 16), (9, 9), (61, 47), (20, 100), (37, 40), (21, 16)):
        pictures = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
        pixels = pictures / 255
        found = run(tmp_path / "net.onnx", pixels if normalizes else (pixels - mean) / std)
        with torch.no_grad():
            expected = network(torch.stack([prepare_image(picture, info) for picture in pictures]))
        assert (found - expected).abs().max() < 0.02 * expected.abs().max()


def test_threads_are_in_the_lines_and_in_the_file(cnn, tmp_path, monkeypatch):
    exported = export_model(cnn, "onnx", tmp_path / "net.onnx", options=ExportOptions(threads=3))
    names = {"inputs": torch.zeros(2, *SIZE).numpy()}
    exec("\n".join(exported.loading), names)
    assert names["session"].get_session_options().intra_op_num_threads == 3 and names["logits"].shape == (2, 4)
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    assert onnxruntime.InferenceSession(exported.path).get_session_options().intra_op_num_threads == 3
    program = export_model(cnn, "pt2", tmp_path / "net.pt2", options=ExportOptions(threads=3))
    assert "torch.set_num_threads(3)" in program.loading
    with pytest.raises(UsageError, match="--threads belongs to programs"):
        export_model(cnn, "safetensors", tmp_path / "net.safetensors", options=ExportOptions(threads=3))


def test_resizing_that_would_not_be_ours_is_refused(cnn, lstm, tmp_path):
    with pytest.raises(UsageError, match="takes sequence, no images"):
        export_model(lstm, "onnx", tmp_path / "net.onnx", options=ExportOptions(resizes=True))
    with pytest.raises(UsageError, match="--resize belongs to --format onnx"):
        export_model(cnn, "pt2", tmp_path / "net.pt2", options=ExportOptions(resizes=True))
    config = {"data": {"name": "digits", "eval_transforms": [{"name": "Resize", "size": 32}]}, "model": "small_cnn"}
    other = replace(cnn, spec=replace(cnn.spec, config=config))
    with pytest.raises(UsageError, match=r"data\.eval_transforms \(Resize\)"):
        export_model(other, "onnx", tmp_path / "net.onnx", options=ExportOptions(resizes=True))
    with pytest.raises(UsageError, match="--opset 15.*cannot be written so: .*antialias"):
        export_model(cnn, "onnx", tmp_path / "net.onnx", options=ExportOptions(resizes=True, opset=15))
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt"}


@pytest.mark.parametrize("opset", [15, 21])
@pytest.mark.parametrize("build", ["cnn", "lstm"])
def test_another_version_of_the_operators(build, opset, tmp_path, request):
    file = request.getfixturevalue(build)
    inputs = torch.randn(5, *file.spec.info.input_size)
    export_model(file, "onnx", tmp_path / "net.onnx", options=ExportOptions(opset=opset))
    model = onnx.load(tmp_path / "net.onnx")
    assert [entry.version for entry in model.opset_import if not entry.domain] == [opset]
    with torch.no_grad():
        torch.testing.assert_close(
            run(tmp_path / "net.onnx", inputs), build_from_file(file)(inputs), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("opset", "words"), [(7, "give a number from 13 to"), (99, "give a number"), (14, "cannot be written so")]
)
def test_a_version_that_cannot_be_had_is_refused(lstm, tmp_path, opset, words):
    with pytest.raises(UsageError, match=f"--opset {opset}.*{words}"):
        export_model(lstm, "onnx", tmp_path / "net.onnx", options=ExportOptions(opset=opset))
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt"}
