"""Maps from several views of a picture, against a plain loop in float64."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import dlkit as package
from dlkit.config import Loss, load_mapping
from dlkit.core.data import DataInfo, build_eval_split
from dlkit.core.distributed import ALONE
from dlkit.core.evaluation import MapViews
from dlkit.core.modelfile import read_model_file
from dlkit.core.models import unet
from dlkit.core.scoring import Scoring, build_loss, pick_precision

CPU = torch.device("cpu")
INFO = DataInfo("segmentation", "image", (2, 24, 16), 3, None, None, None)
SCORING = Scoring(
    build_loss(Loss(name="auto"), INFO, targets=lambda: None, device=CPU),
    pick_precision("off", CPU),
    "segmentation",
    info=INFO,
)


def triangle_weights(before, after, *, antialias):
    """The matrix (after, before) of linear interpolation: triangles about the middle of each new pixel, wider where they are to smooth."""
    ratio = before / after
    width = max(ratio, 1) if antialias else 1
    rows = torch.zeros(after, before, dtype=torch.float64)
    for new in range(after):
        middle = (new + 0.5) * ratio - 0.5
        for old in range(before):
            rows[new, old] = max(0, 1 - abs(old - middle) / width)
        rows[new] /= rows[new].sum()
    return rows


def scaled(picture, size, *, antialias):
    rows, columns = (
        triangle_weights(*sides, antialias=antialias) for sides in zip(picture.shape[1:], size, strict=True)
    )
    return torch.stack([rows @ channel @ columns.T for channel in picture])


def mirrored(picture):
    return picture[:, :, list(reversed(range(picture.shape[2])))]


def mean_probabilities(network, picture, sizes):
    views = []
    for size in sizes:
        image = scaled(picture, size, antialias=True)
        for turn in (lambda x: x, mirrored):
            with torch.no_grad():
                found = turn(network(turn(image)[None])[0].softmax(0))
            views.append(scaled(found, picture.shape[1:], antialias=False))
    return sum(views) / len(views)


class Fixed(nn.Module):
    """Takes pictures of 24x16 alone."""

    def __init__(self):
        super().__init__()
        self.conv, self.places = nn.Conv2d(2, 3, 3, padding=1), nn.Parameter(torch.randn(3, 24, 16))

    def forward(self, x):
        return self.conv(x) + self.places


class NothingSmall(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x):
        if x.shape[2] < 24:
            raise ValueError("too small")
        return self.conv(x)


def net(depth):
    return unet(2, 3, input_size=(2, 16, 16), width=3, depth=depth)


@pytest.mark.parametrize(
    ("make", "size", "sizes"),
    [
        (lambda: net(2), (24, 16), [(20, 12), (24, 16), (32, 20)]),  # 18 and 30 are halfway
        (lambda: net(1), (8, 6), [(6, 4), (8, 6), (10, 8)]),
        (lambda: net(4), (16, 16), [(16, 16)]),
        (lambda: net(4), (48, 16), [(32, 16), (48, 16), (64, 16)]),
        (Fixed, (24, 16), [(24, 16)]),
        (NothingSmall, (24, 16), [(24, 16), (30, 20)]),
    ],
)
def test_the_mean_over_scales_and_mirror_images(make, size, sizes):
    torch.manual_seed(0)
    network, notes = make().double().eval(), []
    inputs = torch.randn(3, 2, *size, dtype=torch.float64)
    views = MapViews(network, SCORING, emit=notes.append)
    with torch.no_grad():
        found = views(inputs)
    wanted = [[size], sizes] if len(sizes) > 1 else [[size]]
    for probabilities, each in zip(found, wanted, strict=True):
        for one, picture in zip(probabilities, inputs, strict=True):
            torch.testing.assert_close(one, mean_probabilities(network, picture, each), atol=1e-12, rtol=0)
    told = [note.text for note in notes]
    if make is Fixed:
        assert len(told) == 1 and "not over scales: the network takes 24x16 alone: The size of tensor" in told[0]
    else:
        assert not told
    with torch.no_grad():
        views(inputs)
    assert len(notes) == len(told)  # once


def test_weights_that_processes_share_are_not_tried():
    notes = []
    views = MapViews(net(2).eval(), SCORING, world=replace(ALONE, lockstep=True), emit=notes.append)
    with torch.no_grad():
        views(torch.randn(1, 2, 16, 16))
    assert "runtime.parallel is fsdp" in notes[0].text


def test_eval_and_training_tell_the_miou_of_that_mean(dlkit, tmp_path):
    data = {"name": "fake", "num_samples": 40, "shape": [1, 8, 8], "num_classes": 3, "batch_size": 8}
    config = {"task": "segmentation", "data": data, "model": {"name": "unet", "width": 3, "depth": 1}}
    run = package.train(
        config | {"train": {"epochs": 1}, "eval": {"tta": True}, "log": {"tensorboard": False}}, out=tmp_path / "run"
    )
    told = json.loads(dlkit("eval", run.model_path, "--tta", "--json").out)["metrics"]
    file, network = read_model_file(run.model_path), package.load_model(run.model_path).double()
    split = build_eval_split(load_mapping(dict(file.spec.config)), file.spec.info, split="test", device=CPU)
    for name, sizes in (("miou_tta", [(8, 8)]), ("miou_tta_scales", [(6, 6), (8, 8), (10, 10)])):
        pairs = []
        for batch in split.batches():
            for picture, target in zip(batch.inputs.double(), batch.targets, strict=True):
                said = mean_probabilities(network, picture, sizes).argmax(0)
                pairs += zip(target.flatten().tolist(), said.flatten().tolist(), strict=True)
        ious = [
            sum(pair == (number, number) for pair in pairs) / sum(number in pair for pair in pairs)
            for number in range(3)
        ]
        assert told[name] == pytest.approx(sum(ious) / 3, abs=4e-3)
        assert run.metrics[name] == pytest.approx(told[name], abs=2e-3)
    assert len({told[name] for name in ("miou", "miou_tta", "miou_tta_scales")}) == 3


def test_a_network_that_is_compiled_is_not_compiled_for_each_size():
    compiled, network = [], net(2).eval()

    def backend(module, example):
        compiled.append(module)
        return module.forward

    network.compile(backend=backend)
    inputs = torch.randn(1, 2, 24, 16)
    with torch.no_grad():
        found = MapViews(network, SCORING)(inputs)
        network._compiled_call_impl = None
        torch.testing.assert_close(found, MapViews(network, SCORING)(inputs))
    assert not compiled
