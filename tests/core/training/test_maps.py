"""Training of maps: accumulation against plain loops in float64, resuming to the bit, and auxiliary heads."""

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import dlkit
from dlkit.config import Loss, load_mapping
from dlkit.core.data import IGNORED, DataInfo
from dlkit.core.scoring import Scoring, build_loss, pick_precision
from dlkit.core.training import build_job, train_step
from dlkit.core.training.folder import read_checkpoint
from dlkit.events import Saved, ignore

CPU = torch.device("cpu")
NUM_CLASSES, SIZE, MICRO = 4, (6, 5), 3
INFO = DataInfo("segmentation", "image", (2, *SIZE), NUM_CLASSES, None, None, None)
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)


def draw_maps():
    """23 pictures, of which from none to nearly all pixels are ignored, and of the fourth to sixth all: a micro-batch of no weight,
    which begins a window where two are accumulated.
    """
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(23, 2, *SIZE, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, NUM_CLASSES, (23, *SIZE), generator=generator)
    targets[torch.rand(23, *SIZE, generator=generator) < torch.arange(23).view(-1, 1, 1) / 23] = IGNORED
    targets[6:9] = IGNORED
    return inputs, targets


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, NUM_CLASSES, 1)).double()


def plain_focal(outputs, targets, weight=None):
    kept = targets != IGNORED
    logs = outputs.movedim(1, -1)[kept].log_softmax(-1).gather(-1, targets[kept][:, None])[:, 0]
    shares = torch.ones_like(logs) if weight is None else weight[targets[kept]]
    return (-logs * (1 - logs.exp()) ** 2 * shares).sum() / shares.sum()


def plain_dice(outputs, targets, weight=None):
    total = shares = 0.0
    for maps, mask in zip(outputs, targets, strict=True):
        kept = mask != IGNORED
        predicted, true = maps[:, kept].softmax(0), F.one_hot(mask[kept], NUM_CLASSES).T
        dices = (2 * (predicted * true).sum(1) + 1) / (predicted.sum(1) + true.sum(1) + 1)
        share = kept.sum() if weight is None else weight[mask[kept]].sum()
        total, shares = total + share * (1 - dices.mean()), shares + share
    return total / shares


def plain_sum(outputs, targets, weight=None):
    entropy = F.cross_entropy(outputs, targets, weight, ignore_index=IGNORED)
    return 2 * entropy + 0.5 * plain_dice(outputs, targets, weight)


def plain_cross_entropy(outputs, targets, weight=None):
    return F.cross_entropy(outputs, targets, weight, ignore_index=IGNORED)


TERMS = {"terms": {"cross_entropy": 2, "dice": 0.5}}
LOSSES = {
    "cross_entropy": ({"name": "cross_entropy"}, plain_cross_entropy),
    "focal": ({"name": "focal", "gamma": 2}, plain_focal),
    "dice": ({"name": "dice"}, plain_dice),
    "sum": ({"name": "sum", **TERMS}, plain_sum),
}
CASES = [(name, weighted) for name in LOSSES for weighted in (False, True) if (name, weighted) != ("dice", True)]


def scoring_of(options, weighted):
    given = {"class_weights": WEIGHTS.tolist()} if weighted else {}
    loss = build_loss(Loss(**options, **given), INFO, targets=lambda: None, device=CPU)
    loss.function.double()
    return Scoring(loss, pick_precision("off", CPU), "segmentation", info=INFO)


def reference_epochs(model, function, *, window):
    inputs, targets = draw_maps()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        for start in range(0, len(inputs), window):
            wanted = targets[start : start + window]
            optimizer.zero_grad()
            if (wanted != IGNORED).any():
                function(model(inputs[start : start + window]), wanted).backward()
            else:  # a window without a pixel that counts has gradients of zero
                (model(inputs[start : start + window]).sum() * 0).backward()
            optimizer.step()
    return model


def largest_difference(first, second):
    return max((a - b).abs().max().item() for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("accumulate", [1, 2, 3, 50])
@pytest.mark.parametrize(("name", "weighted"), CASES)
def test_accumulation_equals_the_large_batch(lab, name, weighted, accumulate):
    options, function = LOSSES[name]
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    learner = lab.learner(model, optimizer, accumulate=accumulate, scoring=scoring_of(options, weighted))
    lab.fit(learner, lab.split(*draw_maps(), MICRO), epochs=2)
    weight = WEIGHTS if weighted else None
    expected = reference_epochs(small_net(), lambda *pair: function(*pair, weight), window=MICRO * accumulate)
    assert largest_difference(model, expected) < 1e-12 < 1e-3 < largest_difference(model, small_net())


CONFIG = {
    "task": "segmentation",
    "data": {"name": "fake", "num_samples": 47, "shape": [2, 12, 10], "num_classes": 3, "batch_size": 4, "eval_batch_size": 3,
             "transforms": ["RandomHorizontalFlip", {"name": "RandomAffine", "degrees": 25, "scale": [0.8, 1.2]}]},
    "model": {"name": f"{Path(__file__).with_name('two_heads.py')}:TwoHeads"},
    "loss": {"name": "sum", "terms": {"cross_entropy": 1, "dice": 1}, "class_weights": "balanced"},
    "optimizer": {"name": "adamw", "lr": 0.01},
    "train": {"epochs": 2, "accumulate": 2},
    "checkpoint": {"every_steps": 1, "keep": 100},
    "log": {"tensorboard": False},
}  # fmt: skip


class Died(BaseException):
    """The process is gone."""


def die_at(step):
    """Returns an `emit` that ends a run once the checkpoint of this step is there."""

    def emit(event):
        if isinstance(event, Saved) and (event.path.parent / f"step-{step:09}.pt").exists():
            raise Died

    return emit


def end_of(run):
    """What must be the same: the last state, rows of metrics but for their times, and the best weights."""
    state = read_checkpoint(run / "checkpoints" / "last.pt")
    kept = {
        key: state[key] for key in ("state_dict", "optimizer", "random", "meter", "best", "position", "learning_rates")
    }
    rows = [row.rpartition(",")[0] for row in (run / "metrics.csv").read_text().splitlines()]
    summary = json.loads((run / "summary.json").read_text())
    network = dlkit.load_model(run / "model.pt", model=CONFIG["model"]["name"])
    return kept | {"rows": rows, "test": summary["test"], "model": dict(network.state_dict())}


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_resume_is_exact(tmp_path, same, cache):
    """From the middle of the second epoch, with moves of pictures and masks, dropout, batch norm, and an auxiliary head."""
    config = CONFIG | {"data": CONFIG["data"] | {"cache": cache, "num_workers": 0}}
    dlkit.train(config, out=tmp_path / "run")
    with pytest.raises(Died):
        dlkit.train(config, out=tmp_path / "killed", emit=die_at(8))
    dlkit.train(config, out=tmp_path / "killed", resume=tmp_path / "killed")
    straight, resumed = (end_of(tmp_path / name) for name in ("run", "killed"))
    assert straight["position"]["step"] == 12 and len(straight["rows"]) == 3 and "val_miou" in straight["rows"][0]
    for key, value in straight.items():
        assert same(value, resumed[key]), key


def test_gradients_of_several_processes_are_about_as_large_as_the_loss():
    """They are divided by the weight of a window before they are summed, by which they would overflow in fp16 else."""
    job = build_job(load_mapping(CONFIG | {"loss": "cross_entropy"}), emit=ignore)
    batch = job.data.train.first_batch()
    _, weight = job.learner.scoring.loss(torch.zeros(4, 3, 12, 10), torch.zeros_like(batch.targets))
    assert job.learner.window_weight == CONFIG["train"]["accumulate"] * weight == 2 * 4 * 12 * 10


@pytest.mark.slow
def test_an_auxiliary_head_is_trained_by_the_loss():
    """Against a plain loop with torchvision's own network, in float64, dropout being off."""
    name = "deeplabv3_mobilenet_v3_large"
    data = CONFIG["data"] | {"shape": [3, 32, 32], "num_samples": 12, "val": "none", "test": "none"}
    config = CONFIG | {"model": {"name": name, "aux_weight": 0.4}, "data": data}
    config |= {"loss": {"name": "cross_entropy"}, "optimizer": {"name": "sgd", "lr": 0.05}, "schedule": "constant"}
    job = build_job(load_mapping(config | {"train": {"epochs": 1}}), emit=ignore)
    network = job.learner.model.double()
    network.register_forward_pre_hook(lambda _, inputs: inputs[0].double())
    other = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=3, aux_loss=True
    ).double()
    other.load_state_dict(network.state_dict())
    for module in [*network.modules(), *other.modules()]:
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    before = copy.deepcopy(other)
    optimizer = torch.optim.SGD([*other.parameters()], lr=0.05)
    job.learner.set_training_mode()
    other.train()
    for batch in job.data.train.batches():
        train_step(job.learner, [batch])
        outputs = other(batch.inputs.double())
        losses = [F.cross_entropy(outputs[key], batch.targets, ignore_index=IGNORED) for key in ("out", "aux")]
        optimizer.zero_grad()
        (losses[0] + 0.4 * losses[1]).backward()
        optimizer.step()
    found, wanted = network.state_dict(), other.state_dict()
    assert all(torch.allclose(found[key], wanted[key], rtol=1e-9, atol=1e-9) for key in wanted)
    assert largest_difference(other.aux_classifier, before.aux_classifier) > 1e-4
