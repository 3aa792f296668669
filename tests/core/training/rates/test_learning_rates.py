"""Rates in an optimizer: groups, momentum that cycles, torch's own schedulers."""

import pytest
import torch

from dlkit.config import Schedule as Section
from dlkit.core.components import ComponentError
from dlkit.core.training.rates import build_learning_rates, resolve_schedule


def make_optimizer(name="SGD", **options):
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr, "initial_lr": lr} for lr in (0.1, 0.02)]
    return getattr(torch.optim, name)(groups, lr=0.1, **options)


def follow(rates, optimizer, num_steps):
    found = []
    for step in range(num_steps):
        found.append(rates.set(optimizer, step))
        optimizer.step()
        rates.after_step()
    return found


def build(optimizer, total_steps=30, **values):
    schedule = resolve_schedule(Section(**values), total_steps=total_steps, steps_per_epoch=10)
    return build_learning_rates(schedule, optimizer)


def test_each_group_has_its_own_peak():
    optimizer = make_optimizer()
    found = follow(build(optimizer, name="linear", start_factor=1.0, end_factor=0.1), optimizer, 30)
    assert found[0] == [0.1, 0.02] and all(second == pytest.approx(first / 5) for first, second in found)


@pytest.mark.parametrize(("name", "key"), [("SGD", "momentum"), ("AdamW", "betas")])
def test_onecycle_cycles_momentum_as_torch_does(name, key):
    options = {"momentum": 0.9} if name == "SGD" else {}
    ours, theirs = make_optimizer(name, **options), make_optimizer(name, **options)
    rates = build(ours, name="onecycle")
    scheduler = torch.optim.lr_scheduler.OneCycleLR(theirs, max_lr=[0.1, 0.02], total_steps=30)
    for step in range(30):
        rates.set(ours, step)
        for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
            assert mine["lr"] == pytest.approx(other["lr"], rel=1e-12)
            assert mine[key] == pytest.approx(other[key], rel=1e-12)
        theirs.step()
        if step < 29:
            scheduler.step()


@pytest.mark.parametrize("unit", ["step", "epoch"])
def test_a_torch_class_by_import_path(unit):
    optimizer, plain = make_optimizer(), make_optimizer()
    rates = build(optimizer, name="torch.optim.lr_scheduler:ExponentialLR", gamma=0.5, unit=unit)
    found = follow(rates, optimizer, 25)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(plain, gamma=0.5)
    for step in range(25):
        assert found[step] == [group["lr"] for group in plain.param_groups]
        plain.step()
        if unit == "step" or (step + 1) % 10 == 0:
            scheduler.step()


def test_a_torch_class_resumes_where_it_was():
    options = {"name": "torch.optim.lr_scheduler:CosineAnnealingLR", "T_max": 20}
    straight_optimizer = make_optimizer()
    straight = follow(build(straight_optimizer, **options), straight_optimizer, 20)
    first_optimizer = make_optimizer()
    first = build(first_optimizer, **options)
    follow(first, first_optimizer, 7)
    second_optimizer = make_optimizer()
    second = build(second_optimizer, **options)
    second_optimizer.load_state_dict(first_optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert follow(second, second_optimizer, 13) == straight[7:]


def test_warmup_belongs_to_our_curves():
    with pytest.raises(ComponentError, match="warmup goes with") as caught:
        build(make_optimizer(), name="torch.optim.lr_scheduler:ExponentialLR", gamma=0.5, warmup="10%")
    assert caught.value.option == "warmup"


def test_unknown_options():
    with pytest.raises(ComponentError, match="unknown key for ExponentialLR"):
        build(make_optimizer(), name="torch.optim.lr_scheduler:ExponentialLR", gama=0.5)


TORCH_CLASSES = sorted(
    name
    for name, thing in vars(torch.optim.lr_scheduler).items()
    if isinstance(thing, type) and issubclass(thing, torch.optim.lr_scheduler.LRScheduler) and not name.startswith("_")
)
NEEDED = {
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
    "ExponentialLR": {"gamma": 0.9},
    "MultiStepLR": {"milestones": [3]},
    "OneCycleLR": {"three_phase": True},
    "StepLR": {"step_size": 3},
    "CosineAnnealingWarmRestarts": {"T_0": 10},
    "SequentialLR": {"schedulers": [], "milestones": []},
    "ChainedScheduler": {"schedulers": []},
    "LambdaLR": {"lr_lambda": 3},
    "MultiplicativeLR": {"lr_lambda": 3},
}


@pytest.mark.parametrize("name", TORCH_CLASSES)
def test_every_class_of_torch_runs_or_is_refused_before(name):
    optimizer = make_optimizer(momentum=0.9)
    try:
        rates = build(optimizer, name=f"torch.optim.lr_scheduler:{name}", **NEEDED.get(name, {}))
    except ComponentError:
        assert name in {"SequentialLR", "ChainedScheduler", "LambdaLR", "MultiplicativeLR", "LRScheduler"}
        return
    found = follow(rates, optimizer, 20)
    for _ in range(30):
        rates.observe(1.0)
    found += follow(rates, optimizer, 10)
    assert len({tuple(lrs) for lrs in found}) > 1


MINE = """
class Mine:
    def __init__(self, optimizer, most=10**9, extra=None):
        self.optimizer, self.most, self.last = optimizer, most, 0
        self.extra = extra and (lambda: 0)

    def state_dict(self):
        return {"last": self.last, "extra": self.extra}

    def load_state_dict(self, state):
        self.last = state["last"]


class Counted(Mine):
    def step(self, epoch):
        if epoch > self.most:
            raise RuntimeError("too often")
        self.last = epoch
        self.optimizer.param_groups[0]["lr"] = 1 / (epoch + 1)


class Two(Mine):
    def step(self, epoch, temperature):
        pass


class Picky(Mine):
    def step(self, metrics):
        if metrics != 1.0:
            raise RuntimeError("no such metric")


class Stateless:
    def __init__(self, optimizer):
        pass

    def step(self):
        pass
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path / 'mine.py'}"


def test_a_step_that_wants_to_know_how_often_is_told(mine):
    optimizer = make_optimizer()
    rates = build(optimizer, name=f"{mine}:Counted")
    assert [lrs[0] for lrs in follow(rates, optimizer, 4)][1:] == [1 / 2, 1 / 3, 1 / 4]
    assert rates.state_dict() == {"scheduler": {"last": 4, "extra": None}, "num_steps": 4}


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("Counted", {"most": 20}, r"Counted.step\(\) fails after update 21: RuntimeError: too often"),
        ("Counted", {"extra": True}, r"Counted.state_dict\(\) cannot be kept in a checkpoint"),
        ("Two", {}, r"Two.step\(\) wants epoch, temperature; dlkit gives it nothing, a metric"),
        ("Stateless", {}, r"Stateless gives Stateless, which has no state_dict\(\)"),
    ],
)
def test_what_would_fail_in_the_run_is_refused_before_it(mine, name, options, says):
    with pytest.raises(ComponentError, match=says):
        build(make_optimizer(), name=f"{mine}:{name}", **options)


def test_what_fails_in_the_run_ends_with_a_sentence(mine):
    rates = build(make_optimizer(), name=f"{mine}:Picky")
    with pytest.raises(ComponentError, match=r"Picky.step\(\) fails after update 0: RuntimeError: no such metric"):
        rates.observe(0.5)
