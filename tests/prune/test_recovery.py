"""Recovery: batch-norm statistics measured again, training with zeros held, earlier weights found again."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from dlkit.config import load_mapping
from dlkit.core.evaluation import evaluate
from dlkit.core.training import build_job
from dlkit.errors import FileRefused, UsageError
from dlkit.events import Note, ignore
from dlkit.prune import (
    Amount,
    PruneRequest,
    Recovery,
    find_norms,
    plan_masks,
    read_rewind_weights,
    recalibrate_norms,
    recover,
    run_mask_rounds,
)

HALF = PruneRequest(amount=Amount(share=0.5), scope="global")


def loss_of(digits, network=None):
    return evaluate(network or digits.network, digits.task_data.judging, digits.task_data.scoring)["loss"]


def parameters_of(network):
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def same(first, second):
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def mask(digits, request=HALF, *, task_data=None, rewound=None, emit=ignore):
    plan = plan_masks(digits.network, request, torch.zeros(2, *digits.file.spec.info.input_size))
    masks, _ = run_mask_rounds(digits.network, plan, request, task_data, rewound=rewound, emit=emit)
    return plan, masks


def shift_means(network):
    """Break the statistics, so that new ones are better."""
    with torch.no_grad():
        for norm in find_norms(network):
            norm.running_mean.add_(0.5)


def test_statistics_are_the_means_over_batches(digits):
    network, task_data = digits.network, digits.task_data
    shift_means(network)
    first = find_norms(network)[0]
    seen = []
    hook = first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]) if module.training else None)
    assert recalibrate_norms(network, task_data, num_batches=5, emit=ignore).is_kept
    hook.remove()
    means = torch.stack([batch.mean((0, 2, 3)) for batch in seen]).mean(0)
    variances = torch.stack([batch.var((0, 2, 3)) for batch in seen]).mean(0)
    assert len(seen) == 5
    assert torch.allclose(first.running_mean, means, atol=1e-5)
    assert torch.allclose(first.running_var, variances, atol=1e-4)


def test_recalibration_helps_a_broken_network_and_leaves_parameters(digits):
    mask(digits)
    shift_means(digits.network)
    before, loss = parameters_of(digits.network), loss_of(digits)
    result = recalibrate_norms(digits.network, digits.task_data, num_batches=10, emit=ignore)
    assert result.is_kept and result.loss_before == pytest.approx(loss) and result.loss_after < loss
    assert loss_of(digits) == pytest.approx(result.loss_after)
    assert same(before, parameters_of(digits.network))
    assert not any(module.training for module in digits.network.modules())
    assert all(norm.momentum == 0.1 for norm in find_norms(digits.network))


def test_worse_statistics_are_not_kept(digits):
    before = copy.deepcopy(digits.network.state_dict())
    loss = loss_of(digits)
    # one batch of one class only is a bad sample of the data
    train = digits.task_data.data.train
    batch = next(train.batches())
    one = batch.targets == batch.targets[0]
    poor = type(batch)(batch.inputs[one], batch.targets[one], batch.indices[one])

    class Poor:
        num_batches = 1

        def batches(self, epoch=0, start=0):
            yield poor

    task_data = replace(digits.task_data, data=replace(digits.task_data.data, train=Poor()))
    result = recalibrate_norms(digits.network, task_data, num_batches=1, emit=ignore)
    assert not result.is_kept and result.loss_after > result.loss_before
    assert same(before, digits.network.state_dict()) and loss_of(digits) == loss


def test_a_network_without_batch_norm_is_left_alone(digits):
    assert recalibrate_norms(nn.Linear(2, 2), digits.task_data, num_batches=1, emit=ignore) is None


def test_fine_tuning_holds_the_zeros_and_helps(digits):
    request = PruneRequest(amount=Amount(share=0.8), scope="global", epochs=2)
    broken = copy.deepcopy(digits)
    mask(broken, request)  # without data nothing is trained
    plan, masks = mask(digits, request, task_data=digits.task_data)
    assert loss_of(digits) < loss_of(broken)
    for name, kept in masks.items():
        weight = digits.network.get_parameter(name)
        assert not weight[~kept].any() and weight[kept].ne(0).all()
    removed = sum(int((~kept).sum()) for kept in masks.values())
    assert removed == round(0.8 * sum(weight.parameter.numel() for weight in plan.weights))


def test_three_iterations_reach_the_share_that_was_asked_for(digits):
    notes = []
    request = PruneRequest(amount=Amount(share=0.8), scope="global", epochs=0.3, iterations=3)
    _, masks = mask(digits, request, task_data=digits.task_data, emit=notes.append)
    total = sum(kept.numel() for kept in masks.values())
    assert sum(int((~kept).sum()) for kept in masks.values()) == round(0.8 * total)
    shares = [note.text for note in notes if isinstance(note, Note) and note.text.startswith("iteration")]
    assert [text.split(": ")[1].split("%")[0] for text in shares] == ["56.3", "77.0", "80.0"]


def test_a_layer_that_is_emptied_is_named(digits):
    with torch.no_grad():
        digits.network.features[0].conv.weight.mul_(1e-6)
    notes = []
    mask(digits, HALF, emit=notes.append)
    assert [note.text for note in notes if "nothing is left of features.0.conv," in note.text]


def test_what_rounds_to_nothing_is_an_error(digits):
    with pytest.raises(UsageError, match="rounds to nothing"):
        mask(digits, PruneRequest(amount=Amount(share=1e-9)))


def test_classes_are_never_masked_as_channels(digits):
    plan, masks = mask(digits, PruneRequest(amount=Amount(share=0.5), is_structured=True))
    assert plan.outputs == ("fc.weight",) and "fc.weight" not in masks
    plan, masks = mask(digits, PruneRequest(amount=Amount(share=0.5), is_structured=True, dim=1))
    assert not plan.outputs and "fc.weight" in masks
    with pytest.raises(UsageError, match="makes outputs"):
        mask(digits, PruneRequest(amount=Amount(share=0.5), is_structured=True, skip=("features.*",)))


def test_initial_weights_are_those_that_training_began_with(digits):
    job = build_job(load_mapping(dict(digits.file.spec.config)), emit=ignore)
    assert same(job.learner.model.state_dict(), read_rewind_weights("init", digits.file, digits.network))


def test_rewinding_trains_from_earlier_weights(digits):
    state = read_rewind_weights(str(digits.run / "checkpoints" / "best.pt"), digits.file, digits.network)
    assert same(state, digits.network.state_dict())
    first = read_rewind_weights("init", digits.file, digits.network)
    plan = plan_masks(digits.network, HALF, torch.zeros(2, 1, 8, 8))
    masks, _ = run_mask_rounds(digits.network, plan, HALF, None, rewound=first, emit=ignore)
    for name, kept in masks.items():  # the choice is by the trained weights, the values are the first ones
        assert torch.equal(digits.network.get_parameter(name), first[name] * kept)
    before = loss_of(digits)
    recover(digits.network, masks, Recovery(epochs=3.0), digits.task_data, emit=ignore)
    assert loss_of(digits) < 0.5 * before
    assert all(not digits.network.get_parameter(name)[~kept].any() for name, kept in masks.items())


@pytest.mark.parametrize(("share", "lr"), [(0.3, None), (0.9, None), (0.9, 0.07)])
def test_the_rate_follows_what_the_cut_cost(digits, share, lr):
    """A third of the config's for no damage, all of it where the loss is three times as large."""
    notes, before = [], loss_of(digits)
    request = PruneRequest(amount=Amount(share=share), scope="global", epochs=1, lr=lr, num_recal=0)
    state = copy.deepcopy(digits.network.state_dict())
    mask(digits, replace(request, epochs=None, lr=None))
    after, whole = loss_of(digits), digits.task_data.loaded.config.optimizer.lr
    digits.network.load_state_dict(state)
    mask(digits, request, task_data=digits.task_data, emit=notes.append)
    told = [note.text for note in notes if isinstance(note, Note) and "training on at a learning rate" in note.text]
    if lr is not None:
        assert not told
    else:
        wanted = min(1.0, 0.3 * after / before)
        assert f"{wanted * whole:.2g}, {wanted:.0%} of the config's" in told[0]


def test_weights_of_another_network_are_refused(digits, tmp_path):
    torch.save({"fc.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    with pytest.raises(FileRefused, match="another network"):
        read_rewind_weights(str(tmp_path / "other.pt"), digits.file, digits.network)
    with pytest.raises(FileRefused, match="no such file"):
        read_rewind_weights(str(tmp_path / "none.pt"), digits.file, digits.network)
    file = replace(digits.file, spec=replace(digits.file.spec, config={}))
    with pytest.raises(UsageError, match="--rewind init"):
        read_rewind_weights("init", file, digits.network)
