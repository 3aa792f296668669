"""A model file describes itself; what it says of its data must never run code."""

from pathlib import Path

import pytest
import torch

import dlkit
from dlkit.core.evaluation import EvalRequest, predict_images, run_evaluation
from dlkit.core.modelfile import read_model_file
from dlkit.errors import UsageError

CIRCLE = Path(__file__).parents[3] / "examples" / "shapes" / "circle" / "circle_00.png"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data = {"name": "fake", "num_samples": 32, "shape": [1, 8, 8], "num_classes": 2, "batch_size": 8}
    config = {"data": data, "model": "mlp", "train": {"epochs": 1}, "log": {"tensorboard": False}}
    return dlkit.train(config, out=tmp_path_factory.mktemp("run") / "run").model_path


@pytest.mark.parametrize("key", ["transforms", "eval_transforms"])
def test_eval_runs_no_code_that_a_file_names(with_data, tmp_path, key):
    file = with_data(**{key: [{"name": "os:system", "command": f"touch {tmp_path}/ran"}]})
    with pytest.raises(UsageError, match="os:system"):
        run_evaluation(file, EvalRequest(split="test"))
    assert not (tmp_path / "ran").exists()


def test_predict_runs_no_code_that_a_file_names(with_data, tmp_path):
    file = with_data(eval_transforms=[{"name": "os:system", "command": f"touch {tmp_path}/ran"}])
    with pytest.raises(UsageError, match="os:system"):
        list(predict_images(file, [CIRCLE]))
    assert not (tmp_path / "ran").exists()


def test_predict_prepares_images_as_evaluation_does(with_data, trained):
    plain = next(predict_images(read_model_file(trained), [CIRCLE])).answer.classes
    # cutting out the middle before the resize shows the network other pixels than resizing alone
    cut = [{"name": "Resize", "size": 16}, {"name": "CenterCrop", "size": 8}]
    assert next(predict_images(with_data(eval_transforms=cut), [CIRCLE])).answer.classes != plain


def test_a_file_without_a_config_predicts_and_asks_for_data(trained, tmp_path):
    value = torch.load(trained, weights_only=True)
    value["spec"]["config"] = {}
    torch.save(value, tmp_path / "bare.pt")
    file = read_model_file(tmp_path / "bare.pt")
    assert (
        next(predict_images(file, [CIRCLE])).answer.classes
        == next(predict_images(read_model_file(trained), [CIRCLE])).answer.classes
    )
    with pytest.raises(UsageError, match="--data CFG"):
        run_evaluation(file, EvalRequest(split="test"))


def test_predicting_leaves_torch_as_it_was_between_images(trained):
    predictions = predict_images(read_model_file(trained), [CIRCLE, CIRCLE])
    next(predictions)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert next(predictions).path == CIRCLE


def test_one_output_is_a_number_and_no_certainty(trained, tmp_path):
    value = torch.load(trained, weights_only=True)
    head = [name for name, tensor in value["state_dict"].items() if len(tensor) == 2]
    value["state_dict"] |= {name: value["state_dict"][name][:1] for name in head}
    value["spec"]["input"] |= {"num_outputs": 1}
    value["spec"]["arch"]["options"] |= {"num_classes": 1}
    torch.save(value, tmp_path / "one.pt")
    prediction = next(predict_images(read_model_file(tmp_path / "one.pt"), [CIRCLE])).answer
    assert prediction.classes == [] and len(prediction.values) == 1
