import pytest
import torch
from torch import nn

from dlkit.core.training import EmaModel


def test_closed_form_after_k_updates():
    model = nn.Linear(2, 2).double()
    start = model.weight.detach().clone()
    ema = EmaModel(model, decay=0.9, warmup=False)
    target = torch.ones(2, 2, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(target)
    for _ in range(7):
        ema.update(model)
    expected = target + (start - target) * 0.9**7
    assert torch.allclose(ema.model.weight, expected, rtol=0, atol=1e-14)


def test_warmup_follows_the_formula():
    ema = EmaModel(nn.Linear(1, 1), decay=0.99)
    assert ema.decay_at(1) == pytest.approx(1 - 2 ** (-2 / 3))
    assert ema.decay_at(10**6) == 0.99
    assert [ema.decay_at(t) for t in range(1, 50)] == sorted(ema.decay_at(t) for t in range(1, 50))


def test_buffers_are_averaged_and_counters_copied():
    model = nn.BatchNorm1d(3)
    ema = EmaModel(model, decay=0.5, warmup=False)
    for _ in range(3):
        model(torch.randn(8, 3) + 5)
        ema.update(model)
    assert int(ema.model.num_batches_tracked) == 3
    assert (ema.model.running_mean > 0.1).all()
    assert not torch.equal(ema.model.running_mean, model.running_mean)


def test_every_second_step_and_state_round_trip():
    model = nn.Linear(2, 2)
    ema = EmaModel(model, decay=0.9, every=2)
    with torch.no_grad():
        model.weight.add_(1)
    before = ema.model.weight.clone()
    ema.update(model)
    assert torch.equal(ema.model.weight, before)
    ema.update(model)
    assert not torch.equal(ema.model.weight, before)
    other = EmaModel(nn.Linear(2, 2), decay=0.9, every=2)
    other.load_state_dict(ema.state_dict())
    assert torch.equal(other.model.weight, ema.model.weight) and other.num_steps == 2


def test_the_average_is_in_evaluation_mode_and_has_no_gradients():
    ema = EmaModel(nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train(), decay=0.9)
    assert not ema.model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
