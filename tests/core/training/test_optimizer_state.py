"""State of an optimizer that comes from a file: its own is taken, anything else refused before a step."""

import copy

import pytest
import torch
from torch import nn

from dlkit.core.training import check_optimizer_state

CLASSES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.5, centered=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1),
}


def stepped(build):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    optimizer = build(model.parameters())
    loss = model(torch.randn(2, 1, 4, 4)).square().sum()
    loss.backward()
    optimizer.step(lambda: loss.detach())
    return optimizer


@pytest.mark.parametrize("build", CLASSES.values(), ids=CLASSES)
def test_own_state_is_taken(build):
    check_optimizer_state(
        stepped(build).state_dict(), build(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(8, 3)).parameters())
    )


@pytest.mark.parametrize("kind", [torch.optim.RMSprop, torch.optim.SGD])
def test_a_momentum_that_a_schedule_moves_is_that_of_the_checkpoint(kind):
    """Only with momentum is there a buffer for it."""

    def moved(parameters):
        optimizer = kind(parameters, lr=0.1)
        optimizer.param_groups[0]["momentum"] = 0.9
        return optimizer

    fresh = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(8, 3))
    check_optimizer_state(stepped(moved).state_dict(), kind(fresh.parameters(), lr=0.1))


@pytest.mark.parametrize(("change", "words"), [
    (lambda state: state["state"][0].pop("step"), "has exp_avg"),
    (lambda state: state["state"][0].update(exp_avg=1.0), "exp_avg in the state of parameter 0"),
    (lambda state: state["state"][0].update(exp_avg=torch.zeros(3)), "has shape"),
    (lambda state: state["state"][0].update(exp_avg=torch.zeros(2, 1, 3, 3, dtype=torch.complex64)), "numbers of torch.complex64"),
    (lambda state: state["state"][0].update(step=torch.tensor(-1.0)), "at step -1"),
    (lambda state: state["param_groups"][0].pop("eps"), "eps.* belongs"),
    (lambda state: state["param_groups"][0].update(amsgrad="x"), "amsgrad in group 0 of its optimizer is 'x'"),
    (lambda state: state["param_groups"][0].update(betas=(-0.9, 0.9)), "group 0 of its optimizer: Invalid beta"),
    (lambda state: state["param_groups"][0].update(params=[0]), "other numbers of parameters"),
    (lambda state: state["param_groups"].clear(), "other numbers of parameters"),
])  # fmt: skip
def test_other_state_is_refused(change, words):
    optimizer = stepped(CLASSES["adamw"])
    state = copy.deepcopy(optimizer.state_dict())
    change(state)
    with pytest.raises(ValueError, match=words):
        check_optimizer_state(state, optimizer)
