"""The range test on real learners: it restores everything, repeats itself, and finds the edge of a known quadratic."""

import copy
import hashlib
import math
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dlkit.config import Clip
from dlkit.core.data import Batch, DataInfo, DataSplits
from dlkit.core.stopping import StopRequest
from dlkit.core.training import EmaModel, find_learning_rate, iterate_windows
from dlkit.errors import DataError
from dlkit.events import Sweeping
from dlkit.schedules import SweepPlan

PLAN = SweepPlan(1e-4, 10.0, 40, 2)


class ShuffledSplit:
    """A split whose order depends on the epoch, and that may do something in the middle."""

    name, num_samples = "train", 64

    def __init__(self, batch_size=8, *, at=None, action=None):
        generator = torch.Generator().manual_seed(5)
        self.inputs = torch.randn(64, 7, generator=generator)
        self.targets = torch.randint(0, 3, (64,), generator=generator)
        self.batch_size, self.num_batches = batch_size, 64 // batch_size
        self.at, self.action, self.num_given, self.epochs = at, action, 0, []

    def batches(self, epoch=0, start=0):
        self.epochs.append(epoch)
        order = torch.randperm(64, generator=torch.Generator().manual_seed(epoch))
        for index in range(start, self.num_batches):
            self.num_given += 1
            if self.num_given == self.at:
                self.action()
            rows = order[index * self.batch_size : (index + 1) * self.batch_size]
            yield Batch(self.inputs[rows], self.targets[rows], rows)

    def sample_targets(self):
        return self.targets


def as_data(split):
    return DataSplits(split, None, None, DataInfo("classification", "features", (7,), 3, None, None, None), ())


class Net(nn.Module):
    """Batch norm, dropout, a buffer that is not saved and one that is replaced at each forward pass, a frozen layer."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(7, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.register_buffer("replaced", torch.zeros(2))
        self.last.bias.requires_grad_(False)

    def forward(self, x):
        self.seen += len(x)
        self.replaced = self.replaced + 1
        return self.last(nn.functional.dropout(self.norm(self.first(x)).relu(), 0.2, self.training))


@pytest.fixture
def learner(lab):
    """In the middle of a training: optimizer state, gradients, a moving average, counters, mixed modes."""
    torch.manual_seed(0)
    model = Net()
    groups = [
        {"params": [*model.first.parameters()], "lr": 0.01, "initial_lr": 0.01},
        {"params": [*model.norm.parameters(), model.last.weight], "lr": 0.1, "initial_lr": 0.1},
    ]
    learner = lab.learner(model, torch.optim.AdamW(groups), ema=EmaModel(model, decay=0.9), clip=Clip(norm=1.0))
    lab.fit(learner, lab.split(torch.randn(40, 7), torch.randint(0, 3, (40,)), 10), epochs=2)
    model.first.weight.grad = torch.ones_like(model.first.weight)
    model.norm.eval()
    learner.num_skipped, learner.on_nan = 2, "skip"
    return learner


def state_hash(learner):
    """A digest of everything that training could change, here or in the process."""
    parts = [
        learner.state_dict(),
        [(name, value) for name, value in learner.model.named_buffers()],
        [parameter.grad for parameter in learner.model.parameters()],
        [parameter.requires_grad for parameter in learner.model.parameters()],
        [module.training for module in learner.model.modules()],
        [{key: value for key, value in group.items() if key != "params"} for group in learner.optimizer.param_groups],
        [id(parameter) for group in learner.optimizer.param_groups for parameter in group["params"]],
        sorted((name, id(value)) for name, value in vars(learner).items()),
        [id(value) for value in [*learner.model.parameters(), *learner.model.buffers()]],
        [random.getstate(), np.random.get_state(), torch.get_rng_state()],
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(pickle.dumps(_plain(part)))
    return digest.hexdigest()


def _plain(value):
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.detach().numpy().tobytes())
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return [(repr(key), _plain(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return repr(value)


def interrupt():
    raise KeyboardInterrupt


def break_data():
    raise DataError("a broken file")


def test_the_hash_sees_every_kind_of_change(learner):
    before = state_hash(learner)
    assert state_hash(learner) == before
    changes = [
        lambda: learner.model.first.weight.data.add_(1e-7),
        lambda: learner.model.seen.add_(1),
        lambda: learner.model.norm.train(),
        lambda: learner.optimizer.param_groups[1].update(lr=0.2),
        lambda: learner.optimizer.state[learner.model.first.weight]["exp_avg"].mul_(1.01),
        lambda: torch.rand(()),
        lambda: random.random(),
        lambda: np.random.rand(),
        lambda: learner.position.__setattr__("step", 99),
        lambda: learner.ema.update(learner.model),
    ]
    hashes = {before}
    for change in changes:
        change()
        hashes.add(state_hash(learner))
    assert len(hashes) == len(changes) + 1


@pytest.mark.parametrize("repeats", [1, 3])
def test_everything_is_restored(learner, repeats):
    before = state_hash(learner)
    test = find_learning_rate(learner, as_data(ShuffledSplit()), SweepPlan(1e-4, 10.0, 40, repeats))
    assert state_hash(learner) == before
    assert len(test.sweeps) == repeats and all(len(sweep.losses) > 10 for sweep in test.sweeps)


@pytest.mark.parametrize("at", [1, 9, 30, 50])
@pytest.mark.parametrize(("action", "error"), [(interrupt, KeyboardInterrupt), (break_data, DataError)])
def test_everything_is_restored_after_an_exception_and_after_ctrl_c(learner, at, action, error):
    before = state_hash(learner)
    with pytest.raises(error):
        find_learning_rate(learner, as_data(ShuffledSplit(at=at, action=action)), PLAN)
    assert state_hash(learner) == before


def test_everything_is_restored_after_ctrl_c_between_backward_and_update(learner):
    before = state_hash(learner)
    learner.optimizer.register_step_pre_hook(lambda *_: interrupt())
    with pytest.raises(KeyboardInterrupt):
        find_learning_rate(learner, as_data(ShuffledSplit()), PLAN)
    assert state_hash(learner) == before


def test_an_optimizer_without_state_has_none_afterwards(lab, small_mlp):
    model = small_mlp().float()
    learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    find_learning_rate(learner, as_data(ShuffledSplit()), PLAN)
    assert not learner.optimizer.state and learner.optimizer.param_groups[0]["lr"] == 0.1
    assert all(parameter.grad is None for parameter in model.parameters())


def test_training_goes_on_as_if_nothing_had_been(lab, learner):
    learner.model.first.weight.grad = None
    inputs, targets = torch.randn(40, 7), torch.randint(0, 3, (40,))
    state = copy.deepcopy(learner.state_dict())
    lab.fit(learner, lab.split(inputs, targets, 10), epochs=4)
    expected = copy.deepcopy(learner.model.state_dict())
    learner.load_state_dict(state)
    find_learning_rate(learner, as_data(ShuffledSplit()), PLAN)
    lab.fit(learner, lab.split(inputs, targets, 10), epochs=4)
    assert all(torch.equal(value, expected[name]) for name, value in learner.model.state_dict().items())


def test_the_same_seed_gives_the_same_curve_and_repeats_differ(learner):
    def curves(seed):
        random.seed(torch.randint(0, 9999, ()).item())  # what was drawn before has no part in it
        test = find_learning_rate(learner, as_data(ShuffledSplit()), PLAN, seed=seed)
        torch.rand(3)
        return [sweep.losses for sweep in test.sweeps]

    first = curves(0)
    assert curves(0) == first
    assert first[0] != first[1]
    assert curves(1) != first  # dropout draws other numbers


def test_every_repeat_reads_epochs_of_its_own(lab, small_mlp):
    model, split = small_mlp().float(), ShuffledSplit()
    learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=0.1), accumulate=3)
    find_learning_rate(learner, as_data(split), SweepPlan(1e-7, 1e-6, 10, 3))
    # 10 steps of 3 micro-batches, the last of an epoch short: 3 windows to an epoch of 8
    assert split.epochs == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]


def test_windows_go_on_over_epochs_and_end_with_them():
    sizes = []
    for _, window in zip(range(7), iterate_windows(ShuffledSplit(), 3), strict=False):
        sizes.append(len(list(window)))
    assert sizes == [3, 3, 2, 3, 3, 2, 3]


def test_groups_keep_their_ratio(lab, small_mlp):
    seen = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    model = small_mlp().float()
    groups = [{"params": [model[0].weight], "lr": 0.4}, {"params": [model[2].weight], "lr": 0.1}]
    learner = lab.learner(model, Spy(groups, lr=0.1))
    plan = SweepPlan(1e-4, 1e-2, 11, 1)
    find_learning_rate(learner, as_data(ShuffledSplit()), plan, base_lr=0.1)
    assert [lrs[1] for lrs in seen] == pytest.approx(list(plan.lrs))
    assert [lrs[0] for lrs in seen] == pytest.approx([4 * lr for lr in plan.lrs])


def test_accumulation_uses_the_window_of_the_config(lab, small_mlp):
    """Two micro-batches of 8 give the losses of one batch of 16."""
    found = []
    for batch_size, accumulate in ((8, 2), (16, 1)):
        model = small_mlp().float()
        learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=0.1), accumulate=accumulate)
        test = find_learning_rate(learner, as_data(ShuffledSplit(batch_size)), SweepPlan(1e-4, 1.0, 20, 1))
        found.append(test.sweeps[0].losses)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_loss_that_is_not_finite_ends_the_sweep(lab, small_mlp):
    model = small_mlp().float()
    learner = lab.learner(
        model, torch.optim.SGD(model.parameters(), lr=0.1), scoring=lab.scoring(lambda out, _: _log_loss(out))
    )
    test = find_learning_rate(learner, as_data(ShuffledSplit()), SweepPlan(1e-3, 1e6, 60, 2))
    for sweep in test.sweeps:
        assert sweep.ended == "not_finite" and 0 < len(sweep.losses) < 60
        assert all(map(math.isfinite, sweep.losses))
        assert sweep.rises_from is not None
    assert all(map(torch.isfinite, [parameter.sum() for parameter in model.parameters()]))


def _log_loss(outputs):
    return (outputs.sum() / 100 + 1).log()


def test_a_negative_loss_is_swept_to_the_end(lab, small_mlp):
    model = small_mlp().float()
    learner = lab.learner(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        scoring=lab.scoring(lambda out, targets: nn.functional.cross_entropy(out, targets) - 10),
    )
    (sweep,) = find_learning_rate(learner, as_data(ShuffledSplit()), SweepPlan(1e-4, 0.3, 60, 1)).sweeps
    assert sweep.ended == "finished" and len(sweep.losses) == 60 and max(sweep.losses) < -5


def test_steps_that_the_loss_scaler_skips_are_made_up_for_and_its_scale_is_restored(lab, small_mlp):
    model = small_mlp().float()
    scoring = lab.scoring(lambda out, targets: 100 * nn.functional.cross_entropy(out, targets))
    learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=0.1), scoring=scoring)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    precision = replace(learner.scoring.precision, scaler=scaler)
    learner.scoring = replace(learner.scoring, precision=precision)
    split = ShuffledSplit()
    (sweep,) = find_learning_rate(learner, as_data(split), SweepPlan(1e-4, 1e-2, 20, 1)).sweeps
    assert sweep.ended == "finished" and len(sweep.losses) == 20
    assert split.num_given > 20  # windows that were skipped
    assert scaler.get_scale() == 2.0**126


def test_a_stop_request_ends_it_with_what_was_found(learner):
    before, stop = state_hash(learner), StopRequest()
    split = ShuffledSplit(at=50, action=lambda: setattr(stop, "signal_number", 2))
    test = find_learning_rate(learner, as_data(split), SweepPlan(1e-4, 0.1, 40, 3), stop=stop)
    assert [sweep.ended for sweep in test.sweeps] == ["finished", "interrupted"]
    assert test.is_interrupted and len(test.sweeps[1].losses) == 10
    assert state_hash(learner) == before


class TimedSplit(ShuffledSplit):
    """Each batch takes this long by the clock of the test."""

    def __init__(self, monkeypatch, seconds):
        super().__init__()
        self.seconds, self.now = seconds, 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def batches(self, epoch=0, start=0):
        for batch in super().batches(epoch, start):
            self.now += self.seconds
            yield batch


@pytest.mark.parametrize(("seconds", "every"), [(1.0, 1), (0.0625, 2), (0.03125, 4)])
def test_progress_is_reported_ten_times_a_second(learner, monkeypatch, seconds, every):
    events, plan = [], SweepPlan(1e-4, 1e-2, 10, 2)
    find_learning_rate(learner, as_data(TimedSplit(monkeypatch, seconds)), plan, emit=events.append)
    assert [(event.sweep, event.step) for event in events] == [(n, k) for n in (1, 2) for k in range(every, 11, every)]
    assert all(isinstance(event, Sweeping) and event.lr == plan.lrs[event.step - 1] for event in events)


class Quadratic(nn.Module):
    """Outputs w - z, so that the loss 0.5 sum(curvature * outputs**2) has a Hessian that is the same for every sample."""

    def __init__(self, curvatures, start=3.0):
        super().__init__()
        self.w = nn.Parameter(torch.full((len(curvatures),), start, dtype=torch.float64))

    def forward(self, z):
        return self.w - z


class Samples:
    """Points z around 0, in another order each epoch; all at once when the batch is the whole."""

    name = "train"

    def __init__(self, inputs, batch_size):
        self.inputs, self.batch_size = inputs, batch_size
        self.num_samples, self.num_batches = len(inputs), len(inputs) // batch_size

    def batches(self, epoch=0, start=0):
        order = torch.randperm(len(self.inputs), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(self.batch_size)[start : self.num_batches]:
            yield Batch(self.inputs[rows], self.inputs[rows], rows)


def sweep_quadratic(lab, curvatures, *, spread, batch_size, plan):
    curvature = torch.tensor(curvatures, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    inputs = spread * torch.randn(512, len(curvatures), dtype=torch.float64, generator=generator)
    model = Quadratic(curvatures)
    scoring = lab.scoring(lambda out, _: 0.5 * (curvature * out.square()).sum(1).mean(), task="regression")
    learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=0.1), scoring=scoring)
    return find_learning_rate(learner, as_data(Samples(inputs, batch_size)), plan)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("curvatures", [[10.0] * 5, [20.0, 10.0, 1.0, 0.1], [50.0] + [1.0] * 20])
def test_divergence_shows_at_two_over_the_largest_curvature(lab, curvatures, scale):
    """Plain SGD in float64 on a quadratic: |1 - lr * lambda| > 1 beyond lr = 2 / lambda_max."""
    curvatures = [scale * curvature for curvature in curvatures]
    edge = 2 / max(curvatures)
    plan = SweepPlan(edge / 100, edge * 10, 600, 5)
    test = sweep_quadratic(lab, curvatures, spread=1.0, batch_size=8, plan=plan)
    assert {sweep.ended for sweep in test.sweeps} == {"diverged"}
    assert test.rises_from / edge == pytest.approx(1.0, abs=0.2)
    ends = sorted(sweep.ended_at / edge for sweep in test.sweeps)
    assert 1.0 < ends[2] < 1.5, ends  # the sweep itself goes on until the loss is four times the best


@pytest.mark.parametrize("largest", [0.5, 10.0, 300.0])
def test_divergence_shows_at_two_over_the_curvature_with_the_full_batch(lab, largest):
    """Without noise nothing feeds a direction that has converged, so all directions have about the same curvature here."""
    edge = 2 / largest
    plan = SweepPlan(edge / 30, edge * 300, 300, 1)
    test = sweep_quadratic(lab, [largest, 0.97 * largest], spread=0.0, batch_size=512, plan=plan)
    assert test.sweeps[0].ended == "diverged"
    assert test.rises_from / edge == pytest.approx(1.0, abs=0.2)
