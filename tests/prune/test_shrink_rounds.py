"""Shrinking in rounds, and what works with a network that was shrunk."""

import copy
from dataclasses import replace

import pytest
import torch

from dlkit.core.evaluation import evaluate, weigh_network
from dlkit.core.stopping import StopRequest
from dlkit.core.torchfile import read_torch_file
from dlkit.core.training import EmaModel, NoRecords, build_fine_tuning, fit, train_step
from dlkit.core.training.folder import save_checkpoint
from dlkit.errors import UsageError
from dlkit.events import Note, ignore
from dlkit.prune import (
    Amount,
    PruneRequest,
    channel_masks,
    open_for_pruning,
    parse_target,
    pick_units,
    plan_shrinking,
    read_rewind_weights,
    run_shrink_rounds,
)
from dlkit.prune.channels import zero_channels


def shrinking(share=0.5, **options):
    amount = options.pop("amount", Amount(share=share))
    return PruneRequest(amount=amount, is_structured=True, is_shrunk=True, round_to=1, **options)


@pytest.fixture
def opened(digits):
    return open_for_pruning(digits.file, data=None, needs_data=True, model=None, device="cpu", emit=ignore)


def run(opened, request, *, rewound=None, emit=ignore):
    plan = plan_shrinking(opened.network, request, opened.example)
    return plan, run_shrink_rounds(opened, plan, request, rewound=rewound, emit=emit)


def loss_of(network, opened):
    return evaluate(network, opened.task_data.judging, opened.task_data.scoring)["loss"]


def kept_channels(network):
    return [module.out_channels for module in network.modules() if isinstance(module, torch.nn.Conv2d)]


def test_half_of_the_channels_are_gone_and_training_brings_it_back(opened):
    before = kept_channels(opened.network)
    _, shrunk = run(opened, shrinking(epochs=3.0))
    assert kept_channels(shrunk.verified.network) == [count // 2 for count in before]
    assert shrunk.verified.max_delta < 1e-9 and set(shrunk.verified.kinds.values()) == {"exact"}
    assert loss_of(shrunk.verified.network, opened) < 0.7 * shrunk.recalibration.loss_before


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_three_rounds_end_at_the_amount_of_the_original(opened, scope):
    notes = []
    request = shrinking(iterations=3, epochs=0.2, scope=scope, schedule="linear")
    before = sum(kept_channels(opened.network))
    _, shrunk = run(opened, request, emit=notes.append)
    told = [note.text for note in notes if isinstance(note, Note) and note.text.startswith("iteration")]
    removed = [int(text.split(": ")[1].split(" of ")[0]) for text in told]
    assert removed == sorted(removed) and removed[-1] == before // 2
    assert sum(kept_channels(shrunk.verified.network)) == before - before // 2


def test_what_one_round_removed_stays_removed(opened):
    request = shrinking()
    plan = plan_shrinking(opened.network, request, opened.example)
    first = pick_units(opened, plan, request, shares=0.25, emit=ignore).keep
    for parameter in opened.network.parameters():  # other weights, other ranks
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    second = pick_units(opened, plan, request, before=first, emit=ignore).keep
    assert all(set(second[group_id]) < set(units) for group_id, units in first.items())


def test_masks_of_channels_are_what_zeroing_does(opened):
    request = shrinking()
    plan = plan_shrinking(opened.network, request, opened.example)
    keep = pick_units(opened, plan, request, emit=ignore).keep
    masks = channel_masks(opened.network, plan.groups, keep)
    zeroed = copy.deepcopy(opened.network)
    zero_channels(zeroed, plan.groups, keep, reads=False)
    for name, parameter in opened.network.named_parameters():
        expected = parameter * masks[name] if name in masks else parameter
        assert torch.equal(zeroed.get_parameter(name), expected)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_count_of_channels(opened, scope):
    before = kept_channels(opened.network)
    plan, shrunk = run(opened, shrinking(amount=Amount(count=2), scope=scope))
    removed = [old - new for old, new in zip(before, kept_channels(shrunk.verified.network))]
    assert sum(removed) == 2 if scope == "global" else removed == [2] * len(before)
    with pytest.raises(UsageError, match="--count"):
        pick_units(opened, plan, shrinking(amount=Amount(count=10**6), scope=scope), emit=ignore)


@pytest.mark.parametrize("method", ["l1", "l2", "random", "bn", "fpgm", "taylor"])
def test_every_method_ranks_channels(opened, method):
    before = sum(kept_channels(opened.network))
    _, shrunk = run(opened, shrinking(method=method))
    assert sum(kept_channels(shrunk.verified.network)) == before // 2


def test_an_amount_that_removes_nothing_is_an_error(opened):
    with pytest.raises(UsageError, match="--round-to"):
        run(opened, PruneRequest(amount=Amount(share=0.01), is_structured=True, is_shrunk=True))


def macs_of(network, opened):
    return weigh_network(network, opened.file.spec.info.input_size, None).macs


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("iterations", [1, 3])
def test_a_target_is_met_from_below_and_closely(opened, scope, iterations):
    before = macs_of(opened.network, opened)
    request = shrinking(amount=None, target=parse_target("macs=40%"), scope=scope, iterations=iterations, epochs=0.2)
    _, shrunk = run(opened, request)
    assert 0.36 * before < macs_of(shrunk.verified.network, opened) == shrunk.solution.after <= 0.4 * before


def test_a_target_that_cannot_be_reached_fails_before_any_training(opened):
    before = copy.deepcopy(opened.network.state_dict())
    request = shrinking(amount=None, target=parse_target("macs=1%"), iterations=3, epochs=1.0)
    with pytest.raises(UsageError, match="smallest reachable"):
        run(opened, request)
    assert all(torch.equal(tensor, before[name]) for name, tensor in opened.network.state_dict().items())


def test_skipped_layers_stay_whole(opened):
    before = kept_channels(opened.network)
    _, shrunk = run(opened, shrinking(skip=("features.0",)))
    assert kept_channels(shrunk.verified.network)[0] == before[0]
    with pytest.raises(UsageError, match="matches no layer"):
        plan_shrinking(opened.original(), shrinking(skip=("nowhere.*",)), opened.example)


def test_rewinding_takes_the_same_channels_of_earlier_weights(digits, opened):
    first = read_rewind_weights("init", digits.file, opened.network)
    _, shrunk = run(opened, shrinking(num_recal=0), rewound=first)
    units = list(shrunk.verified.keep["features.0.conv"])
    small = shrunk.verified.network.state_dict()
    assert torch.equal(small["features.0.conv.weight"], first["features.0.conv.weight"][units])


def test_new_statistics_of_a_shrunk_network_help_and_leave_its_parameters(opened):
    plain = run(opened, shrinking(num_recal=0))[1].verified.network
    opened = replace(opened, network=opened.original())
    shrunk = run(opened, shrinking())[1]
    assert shrunk.recalibration.is_kept
    assert loss_of(shrunk.verified.network, opened) < loss_of(plain, opened)
    for name, parameter in shrunk.verified.network.named_parameters():
        assert torch.equal(parameter, plain.get_parameter(name))


# what works with a shrunk network


def tuning_of(network, opened):
    task_data = opened.task_data
    return build_fine_tuning(
        task_data.loaded, network, task_data.data.info, epochs=1, lr=0.01, device=task_data.device, emit=ignore
    )


def test_every_parameter_of_a_shrunk_network_moves_in_one_step(opened):
    network = run(opened, shrinking())[1].verified.network
    tuning = tuning_of(network, opened)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    learner = tuning.learner
    learner.set_training_mode()
    learner.rates.set = lambda optimizer, step: [0.01]  # the first step of a warm-up is too small to see
    for group in learner.optimizer.param_groups:
        group["lr"] = 0.01
    train_step(learner, [next(tuning.data.train.batches())])
    assert learner.position.step == 1
    still = [name for name, parameter in network.named_parameters() if torch.equal(parameter, before[name])]
    assert not still
    shapes = {id(parameter): parameter.shape for parameter in network.parameters()}
    for parameter, state in learner.optimizer.state.items():
        assert all(value.shape == shapes[id(parameter)] for value in state.values() if value.ndim)


def test_copies_and_averages_of_a_shrunk_network(opened):
    network = run(opened, shrinking())[1].verified.network
    again = copy.deepcopy(network)
    ema = EmaModel(network, decay=0.5, warmup=False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    ema.update(network)
    for name, parameter in again.named_parameters():
        assert torch.allclose(ema.model.get_parameter(name), parameter + 0.5, atol=1e-6)


class SaveAt(NoRecords):
    def __init__(self, folder, step):
        self.folder, self.step = folder, step

    def add_step(self, learner, result):
        if learner.position.step == self.step:
            save_checkpoint(self.folder, learner, {})


def test_resuming_the_training_of_a_shrunk_network_is_exact(opened, tmp_path):
    network = run(opened, shrinking())[1].verified.network
    whole, resumed = tuning_of(copy.deepcopy(network), opened), tuning_of(copy.deepcopy(network), opened)
    fit(whole.learner, whole.data, whole.plan, SaveAt(tmp_path, 5), stop=StopRequest(), emit=ignore)
    resumed.learner.load_state_dict(read_torch_file(tmp_path / "last.pt"))
    fit(resumed.learner, resumed.data, resumed.plan, NoRecords(), stop=StopRequest(), emit=ignore)
    other = resumed.learner.model.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in whole.learner.model.state_dict().items())
