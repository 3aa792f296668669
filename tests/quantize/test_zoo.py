"""A sample of torchvision's classifiers by the script that runs all of them (benchmarks/quantize_zoo.py)."""

import importlib.util
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "quantize_zoo.py"


@pytest.fixture(scope="module")
def zoo():
    spec = importlib.util.spec_from_file_location("quantize_zoo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _gradients_stay_as_they_were():
    with torch.set_grad_enabled(True):
        yield


def check(row):
    assert (row["status"], row["reload"], row["dynamic_status"]) == ("ok", "equal", "ok"), row
    assert row["int8_layers"] > 10 and sum(row["kernels"].values()) > 10
    assert row["sqnr_db"] > 0 and row["cosine"] > 0.7  # random weights make noise grow with depth


def test_one_classifier(zoo):
    check(zoo.examine("squeezenet1_1", "auto", use_onnx=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf", "efficientnet_b0", "swin_t"])
def test_some_classifiers(zoo, name):
    row = zoo.examine(name, "auto", use_onnx=False)
    check(row)
    if name == "efficientnet_b0":  # stochastic depth does nothing in evaluation mode and must not leave the int8 grid
        assert not row["float_layers"]


def test_all_are_there_to_be_run(zoo):
    assert len(zoo.classifiers()) >= 80 and "vit_h_14" in zoo.classifiers()
