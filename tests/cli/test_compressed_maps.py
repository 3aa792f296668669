"""Models of maps through quantize, prune, export and compare: judged by mIoU, told in pixels."""

import json

import pytest

import dlkit as package

CONFIG = {
    "task": "segmentation",
    "data": {"name": "fake", "num_samples": 60, "shape": [1, 16, 16], "num_classes": 4, "batch_size": 16},
    "model": {"name": "unet", "width": 8, "depth": 2},
    "train": {"epochs": 2},
    "log": {"tensorboard": False},
}
UPS = ("transposed", "bilinear")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    for up in UPS:
        model = {**CONFIG["model"], "up": up}
        package.train({**CONFIG, "model": model, "runtime": {"threads": 1}}, out=folder / up)
    return folder


def judged(dlkit, path):
    return json.loads(dlkit("eval", path, "--json").out)["metrics"]


@pytest.mark.slow
def test_static_int8_is_judged_by_miou_and_tells_of_pixels(dlkit, trained, quick, tmp_path):
    pytest.importorskip("onnxruntime")
    model, small = trained / "transposed" / "model.pt", tmp_path / "int8.pt"
    options = ("--static", "--max-drop", "100", "--sensitivity", "--export", "onnx", "--no-latency", "-o", small)
    done = dlkit("quantize", model, *options)
    assert done.code == 0, done.err
    assert "all layers in int8: mIoU" in " ".join(done.err.split())
    rows = {line.split("  ")[0].strip(): line.split() for line in done.out.splitlines()}
    assert rows["miou"][-1] == "points" and rows["same pixels"][-1].endswith("%") and "same class" not in rows
    assert "on 15 test samples" in done.out and "of the pixels of 32 samples in ONNX Runtime" in done.out
    facts = json.loads((tmp_path / "int8.report.json").read_text())
    after, before = (facts["comparison"][side]["scores"]["metrics"] for side in ("after", "before"))
    assert after == pytest.approx(judged(dlkit, small)) and before == pytest.approx(judged(dlkit, model))
    whole = json.loads(dlkit("eval", small, "--sliding-window", "--json").out)["metrics"]
    assert whole == pytest.approx({name: value for name, value in after.items() if name != "loss"})
    assert facts["drop_points"] == pytest.approx(100 * (before["miou"] - after["miou"]))
    assert 0.9 < facts["comparison"]["agreement"]["same_pixels"] <= 1
    assert facts["comparison"]["agreement"]["same_top1"] is None


@pytest.mark.slow
@pytest.mark.parametrize("up", UPS)
def test_trained_for_int8_a_unet_is_int8_throughout(dlkit, trained, quick, tmp_path, up):
    """The command itself loads the file in a fresh process and ends with an error where outputs differ in a bit."""
    small, options = tmp_path / "int8.pt", ("--qat", "--epochs", "1", "--keep", "trained", "--distill", "--no-latency")
    done = dlkit("quantize", trained / up / "model.pt", *options, "-o", small, "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["recipe"]["mode"] == "qat" and facts["layers"]["int8"] == facts["layers"]["all"] > 20
    assert facts["kernels"]["runs"] == 13
    assert 0.9 < facts["training"]["comparison"]["agreement"] <= 1
    assert facts["comparison"]["after"]["scores"]["metrics"] == pytest.approx(judged(dlkit, small))


def test_pruned_to_a_target_and_scored_by_miou(dlkit, trained, tmp_path):
    model, small = trained / "bilinear" / "model.pt", tmp_path / "small.pt"
    options = ("--target", "macs=60%", "--round-to", "1", "--finetune", "1", "--no-latency", "-o", small)
    done = dlkit("prune", model, *options)
    assert done.code == 0, done.err
    assert "same pixels" in done.out and "same class" not in done.out and "test samples" in done.out
    facts = json.loads((tmp_path / "small.report.json").read_text())
    assert facts["checks"]["is_exact"] and not facts["checks"]["rolled_back"]
    assert facts["after"]["scores"]["metrics"] == pytest.approx(judged(dlkit, small))
    assert facts["after"]["costs"]["macs"] <= 0.6 * facts["before"]["costs"]["macs"]


def test_pictures_without_masks_calibrate_and_pixels_are_told(dlkit, trained, quick, tmp_path):
    from PIL import Image

    for number in range(3):
        Image.effect_noise((16, 16), 60 + number).save(tmp_path / f"{number}.png")
    model, options = trained / "transposed" / "model.pt", ("--static", "--no-latency", "-o", tmp_path / "int8.pt")
    done = dlkit("quantize", model, *options, "--data", f"images:{tmp_path}")
    assert done.code == 0, done.err
    assert "% of the pixels of the 3 images that calibrated" in " ".join(done.err.split())


def test_a_file_that_resizes_says_what_its_maps_are_of(dlkit, trained, tmp_path):
    pytest.importorskip("onnxruntime")
    options = ("--format", "onnx", "--resize", "-o", tmp_path / "net.onnx")
    done = dlkit("export", trained / "bilinear" / "model.pt", *options)
    assert done.code == 0, done.err
    assert "maps are of 16x16, of the picture as it was scaled and cut; --dynamic-size" in " ".join(done.out.split())


def test_compare_and_runs_tell_of_miou(dlkit, trained):
    done = dlkit("compare", trained / "transposed", trained / "bilinear")
    cannot = [line for line in done.out.splitlines() if line.startswith("cannot tell")]
    assert done.code == 0 and "test_miou" in done.out and not any("test_miou" in line for line in cannot)
    listed = dlkit("runs", trained).out
    assert "test_miou" in listed and "%" in listed
