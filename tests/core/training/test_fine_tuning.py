"""Fine-tuning: the same as a loop by hand, what it keeps, what it refuses."""

import math
import signal

import pytest
import torch
from torch import nn

from dlkit.config import load_mapping
from dlkit.core.data import DataInfo, build_data
from dlkit.core.modelfile import ModelFile, ModelSpec
from dlkit.core.models import Arch
from dlkit.core.training import NoRecords, build_fine_tuning, fine_tune, pick_tuning_config
from dlkit.errors import DataError, Diverged, Interrupted, UsageError
from dlkit.events import EpochDone, Note, RunStarted, ignore

CPU = torch.device("cpu")
DIGITS = tuple("0123456789")
INFO = DataInfo("classification", "image", (1, 8, 8), 10, DIGITS, (0.3,), (0.4,))


class Net(nn.Module):
    """A float64 network that takes float32 batches."""

    def __init__(self, *, dropout: float = 0.0, has_norm: bool = False):
        super().__init__()
        norm = nn.BatchNorm1d(16) if has_norm else nn.Identity()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), norm, nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 10)
        ).double()

    def forward(self, inputs):
        return self.body(inputs.double())


def config(**sections):
    values = {
        "data": {"name": "digits", "limit": 200, "batch_size": 32},
        "model": "mlp",
        "optimizer": {"name": "adamw", "lr": 0.02, "weight_decay": 0.1},
        "train": {
            "epochs": 50,
            "accumulate": 2,
            "clip": {"norm": 1.0},
            "early_stop": {"patience": 1},
            "max_time": 1e-9,
        },
        "ema": {"decay": 0.9},
    }
    return load_mapping(values | sections)


def network(**options):
    torch.manual_seed(4)
    return Net(**options)


def tune(loaded=None, model=None, *, epochs=2, lr=0.002, info=INFO, emit=ignore, **options):
    model = model or network()
    tuning = build_fine_tuning(loaded or config(), model, info, epochs=epochs, lr=lr, device=CPU, emit=emit)
    fine_tune(tuning, emit=emit, **options)
    return tuning, model


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def by_hand(model, *, epochs, peak):
    """The same in plain torch: accumulate 2, clip, AdamW without decay on biases, warm-up, cosine."""
    train = build_data(config(), device=CPU, seed=0, known=INFO).train
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], weight_decay=0.1)
    num_windows = math.ceil(train.num_batches / 2)
    total = epochs * num_windows
    warmup = math.ceil(0.05 * total)
    step = 0
    for epoch in range(epochs):
        batches = list(train.batches(epoch))
        for start in range(0, len(batches), 2):
            inputs = torch.cat([batch.inputs for batch in batches[start : start + 2]])
            targets = torch.cat([batch.targets for batch in batches[start : start + 2]])
            share = (step - warmup) / (total - warmup)
            lr = peak * (0.01 + 0.99 * step / warmup if step < warmup else (1 + math.cos(math.pi * share)) / 2)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
    return model


def test_fine_tuning_equals_the_loop_by_hand():
    _, model = tune(epochs=3, keep_best=False)
    wanted = by_hand(network(), epochs=3, peak=0.002)
    for name, parameter in wanted.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=0, atol=1e-12)


def test_every_parameter_moves_and_averaging_and_early_stopping_are_off():
    before = weights(network())
    tuning, model = tune(epochs=4, keep_best=False)
    assert all(not torch.equal(before[name], value) for name, value in model.named_parameters())
    assert tuning.learner.ema is None
    assert tuning.learner.early_stopping is None
    assert len(tuning.learner.history) == 4
    assert not model.training


def test_epochs_may_be_a_fraction():
    tuning, _ = tune(epochs=1.5, keep_best=False)
    steps_per_epoch = math.ceil(tuning.data.train.num_batches / 2)
    assert tuning.learner.position.step == round(1.5 * steps_per_epoch)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"epochs": math.inf}, {"lr": 0.0}, {"lr": -1.0}])
def test_nonsense_is_refused(options):
    with pytest.raises(UsageError, match="greater than 0"):
        tune(**options)


class Judge(NoRecords):
    """Keeps the weights of each epoch, and may spoil or stop one."""

    def __init__(self, *, spoil_from=99, stop_at=-1):
        self.weights, self.spoil_from, self.stop_at = [], spoil_from, stop_at

    def add_step(self, learner, result):
        if learner.position.step == self.stop_at:
            signal.raise_signal(signal.SIGTERM)
        if learner.position.epoch >= self.spoil_from:
            with torch.no_grad():
                for parameter in learner.model.parameters():
                    parameter.zero_()

    def add_epoch(self, learner, row):
        self.weights.append(weights(learner.model))


def test_the_best_epoch_is_restored():
    tuning = build_fine_tuning(config(), network(), INFO, epochs=4, lr=0.02, device=CPU, emit=ignore)
    records = Judge(spoil_from=2)
    fine_tune(tuning, records, emit=ignore)
    rows = tuning.learner.history
    best = max(range(4), key=lambda epoch: rows[epoch]["val_accuracy"])
    assert best < 2
    assert tuning.learner.best.epoch == best + 1
    for name, tensor in tuning.learner.model.state_dict().items():
        assert torch.equal(tensor, records.weights[best][name])


def test_the_network_as_it_came_counts_as_epoch_0():
    _, good = tune(epochs=20, lr=0.02)
    before, notes = weights(good), []
    tuning, _ = tune(model=good, lr=5.0, emit=notes.append)  # a rate that can only spoil it
    assert tuning.learner.best.epoch == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in good.state_dict().items())
    assert any("no epoch of fine-tuning improved val_accuracy" in note.text for note in notes if isinstance(note, Note))
    tuning, _ = tune(model=good, lr=5.0, judge_first=False)
    assert tuning.learner.best.epoch > 0


def test_the_same_seed_gives_the_same_weights_and_leaves_random_state_alone():
    torch.manual_seed(1)
    _, first = tune(model=network(dropout=0.5), keep_best=False)
    torch.manual_seed(2)
    model = network(dropout=0.5)
    torch.manual_seed(2)
    wanted = torch.rand(3)
    torch.manual_seed(2)
    tune(model=model, keep_best=False)
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(first.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    _, other = tune(config(seed=5), network(dropout=0.5), keep_best=False)
    assert any(not torch.equal(first.state_dict()[name], tensor) for name, tensor in other.state_dict().items())


def test_without_validation_the_last_epoch_is_kept_with_a_note():
    notes = []
    loaded = config(data={"name": "digits", "limit": 200, "batch_size": 32, "val": "none"}, train={})
    tuning = build_fine_tuning(loaded, network(), INFO, epochs=2, lr=0.002, device=CPU, emit=notes.append)
    records = Judge()
    fine_tune(tuning, records, emit=notes.append)
    for name, tensor in tuning.learner.model.state_dict().items():
        assert torch.equal(tensor, records.weights[-1][name])
    assert [event for event in notes if isinstance(event, Note) and "no validation split" in event.text]


def test_what_is_reported():
    events = []
    tune(emit=events.append)
    started = next(event for event in events if isinstance(event, RunStarted))
    assert started.run_dir is None
    assert started.total_steps == 2 * started.steps_per_epoch
    assert [event.epoch for event in events if isinstance(event, EpochDone)] == [1, 2]


def test_a_signal_ends_it_with_its_exit_code():
    tuning = build_fine_tuning(config(), network(), INFO, epochs=3, lr=0.002, device=CPU, emit=ignore)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="step 2 of 12.*nothing was written") as caught:
        fine_tune(tuning, Judge(stop_at=2), emit=ignore)
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_divergence_is_an_error():
    model = network()
    with torch.no_grad():
        model.body[1].weight.fill_(math.nan)
    with pytest.raises(Diverged):
        tune(model=model)


def test_groups_keep_their_rates_and_stay_frozen():
    groups = [{"match": "body.1.*", "freeze": True}, {"match": "body.5.bias", "lr_mult": 0.0}]
    before = weights(network())
    _, model = tune(config(optimizer={"name": "sgd", "lr": 0.1, "groups": groups}), keep_best=False)
    moved = [name for name, tensor in model.named_parameters() if not torch.equal(before[name], tensor)]
    assert moved == ["body.5.weight"]


def test_inputs_are_normalized_as_the_network_was_trained():
    loaded = config(data={"name": "digits", "limit": 200, "normalize": {"mean": [0.0], "std": [1.0]}})
    tuning = build_fine_tuning(loaded, network(), INFO, epochs=1, lr=0.002, device=CPU, emit=ignore)
    raw = build_data(loaded, device=CPU, seed=0).train
    given, plain = next(iter(tuning.data.train.batches())), next(iter(raw.batches()))
    torch.testing.assert_close(given.inputs, (plain.inputs - 0.3) / 0.4)


def test_classes_are_matched_by_name():
    turned = DataInfo("classification", "image", (1, 8, 8), 10, DIGITS[::-1], (0.3,), (0.4,))
    tuning = build_fine_tuning(config(), network(), turned, epochs=1, lr=0.002, device=CPU, emit=ignore)
    plain = build_data(config(), device=CPU, seed=0).train
    assert torch.equal(tuning.data.train.sample_targets(), 9 - plain.sample_targets())
    unknown = DataInfo("classification", "image", (1, 8, 8), 10, tuple("abcdefghij"), (0.3,), (0.4,))
    with pytest.raises(DataError, match="unknown to the model"):
        tune(info=unknown)


def model_file(tmp_path, **sections):
    spec = ModelSpec(Arch("dlkit", "mlp", {}), INFO, config=dict(config(**sections).values))
    return ModelFile(tmp_path / "model.pt", spec, {})


@pytest.mark.parametrize(
    "sections",
    [
        {"loss": "evil.module:Loss"},
        {"optimizer": {"name": "evil.module:Optimizer", "lr": 0.1}},
        {"data": {"name": "digits", "batch_transforms": ["evil.module:Mix"]}},
        {"data": {"name": "evil.module:Data"}},
    ],
    ids=["loss", "optimizer", "batch_transforms", "data"],
)
def test_a_file_never_names_code_to_run(tmp_path, sections):
    file = model_file(tmp_path, **sections)
    with pytest.raises(UsageError, match=r"evil\.module:\w+, which is your own code"):
        pick_tuning_config(file, None)
    assert pick_tuning_config(file, config()).config.loss.name == "auto" if "loss" not in sections else True


def test_a_named_config_takes_from_the_file_what_it_leaves_unsaid(tmp_path):
    file = model_file(tmp_path)
    data_only = load_mapping({"data": {"name": "digits", "batch_size": 7}, "model": "mlp", "loss": "mse"})
    picked = pick_tuning_config(file, data_only).config
    assert picked.data.batch_size == 7
    assert picked.loss.name == "mse"
    assert picked.optimizer.lr == 0.02
    assert picked.train.accumulate == 2
