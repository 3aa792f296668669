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
