"""TensorBoard of a run with masks: what its pictures show, read back, and that training is the same without them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import dlkit
from dlkit.config import load_mapping
from dlkit.core.training import build_job
from dlkit.core.training.folder import read_checkpoint
from dlkit.events import ignore

CONFIG = {
    "task": "segmentation",
    "data": {"name": "fake", "num_samples": 60, "shape": [3, 16, 16], "num_classes": 4, "batch_size": 16, "eval_batch_size": 2,
             "transforms": [{"name": "RandomRotation", "degrees": [45, 45]}]},
    "model": {"name": "unet", "width": 4, "depth": 2, "dropout": 0.1},
    "train": {"epochs": 3},
    "eval": {"every": 2},
    "log": {"graph": False, "images": 3},
}  # fmt: skip
COLORS = torch.tensor(
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], *[[200, 200, 200]] * 252]
)  # the last are not counted
RIGHT, WRONG = (52, 58, 70), (235, 64, 52)


def train(folder, **changes):
    dlkit.train(CONFIG | changes, out=folder)
    return read_checkpoint(folder / "checkpoints" / "last.pt")


@pytest.fixture
def pictures(tmp_path):
    """The pictures that a run left: those of a tag as (step, pixels)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tb"), size_guidance={"images": 0})
    events.Reload()
    text = events.Tensors("classes/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| 1 | #800000 |" in text
    return lambda tag: [
        (each.step, torch.from_numpy(np.array(Image.open(io.BytesIO(each.encoded_image_string)))))
        for each in events.Images(tag)
    ]


def panels(sheet, row, count):
    """The pictures of one row of a sheet, between which is a line of one pixel."""
    line = sheet[17 * row : 17 * row + 16]
    assert line.shape[1] == 17 * count - 1
    return [line[:, 17 * place : 17 * place + 16] for place in range(count)]


def test_they_show_what_is_trained_on_and_what_the_network_says(pictures, tmp_path):
    job = build_job(load_mapping(CONFIG), emit=ignore)
    batch = job.data.train.first_batch()
    ((step, sheet),) = pictures("train/images")
    assert step == 0 and (batch.targets == 255).any()
    for row in range(3):
        _, mask = panels(sheet, row, 2)
        assert torch.equal(mask.long(), COLORS[batch.targets[row]])
    found = pictures("val/masks")
    assert [step for step, _ in found] == [2 * 4, 3 * 4]  # the second epoch and the last
    model = job.learner.model
    model.load_state_dict(read_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["state_dict"])
    samples = [sample for batch in job.data.val.batches() for sample in zip(batch.inputs, batch.targets, strict=True)][
        :3
    ]
    mean, std = (torch.tensor(values)[:, None, None] for values in (job.data.info.mean, job.data.info.std))
    for row, (image, target) in enumerate(samples):
        picture, truth, prediction, error = panels(found[-1][1], row, 4)
        with torch.no_grad():
            said = model.eval()(image[None]).argmax(1)[0]
        assert ((image * std + mean).movedim(0, 2) * 255 - picture).abs().max() <= 0.51
        assert torch.equal(truth.long(), COLORS[target]) and torch.equal(prediction.long(), COLORS[said])
        assert torch.equal(error.long(), torch.tensor([RIGHT, WRONG])[(said != target).long()])


def test_training_is_the_same_bits_without_them(tmp_path, same):
    ema = {"ema": {"decay": 0.9}}
    shown, plain = train(tmp_path / "shown", **ema), train(tmp_path / "plain", **ema, log={"tensorboard": False})
    for key in ("state_dict", "state_dict_ema", "optimizer", "random", "meter", "best", "position"):
        assert same(shown[key], plain[key]), key
