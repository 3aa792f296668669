"""Masks against torch.nn.utils.prune, bit for bit: one round, three rounds, ties, layers and the whole network."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from dlkit.errors import UsageError
from dlkit.prune import Amount, progress_of
from dlkit.prune.masks import (
    MaskRule,
    apply_masks,
    find_weights,
    full_masks,
    grow_masks,
    measure_sparsity,
    total_sparsity,
)

SHARES = [0.1, 0.25, 0.5, 0.8, 0.97]


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 10, 3),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        nn.ConvTranspose2d(10, 7, 3),
        nn.Flatten(),
        nn.Linear(175, 5),
    )


def tied(seed=0):
    """Every absolute value many times over."""
    model = network(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * 20).round() / 20)
    return model


def grow(model, rule, *, rounds=1, seed=0):
    """Masks after each round, applied as they grow."""
    weights, generator = find_weights(model), torch.Generator().manual_seed(seed)
    masks = full_masks(weights)
    history = []
    for progress in progress_of("linear", rounds):
        masks = grow_masks(weights, masks, rule, progress=progress, generator=generator)
        apply_masks(model, masks)
        history.append(masks)
    return history


def torch_counts(sizes, share, rounds):
    """What each round of torch's must remove for the shares to be of the original."""
    done = [[round(share * part * size) for size in sizes] for part in progress_of("linear", rounds)]
    return [
        [now - before for now, before in zip(row, done[step - 1] if step else [0] * len(sizes))]
        for step, row in enumerate(done)
    ]


def pruned_modules(model):
    return [module for module in model if hasattr(module, "weight") and module.weight.ndim > 1]


def same(model, theirs, masks):
    """Our masks and weights are theirs."""
    for index, module in enumerate(theirs):
        if hasattr(module, "weight_mask"):
            assert torch.equal(masks[f"{index}.weight"], module.weight_mask.bool())
            assert torch.equal(model[index].weight, module.weight)


METHODS = {"l1": (False, prune.L1Unstructured), "random": (True, prune.RandomUnstructured)}


@pytest.mark.parametrize("build", [network, tied])
@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("method", METHODS)
def test_single_weights_by_layer_equal_torch(build, rounds, share, method):
    is_random, theirs = METHODS[method]
    model, oracle = build(), build()
    history = grow(model, MaskRule(Amount(share=share), is_random=is_random), rounds=rounds)
    torch.manual_seed(0)
    modules = pruned_modules(oracle)
    for counts in torch_counts([module.weight.numel() for module in modules], share, rounds):
        for module, count in zip(modules, counts):
            theirs.apply(module, "weight", amount=count)
    same(model, oracle, history[-1])


@pytest.mark.parametrize("build", [network, tied])
@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("method", METHODS)
def test_single_weights_globally_equal_torch(build, rounds, share, method):
    is_random, theirs = METHODS[method]
    model, oracle = build(), build()
    history = grow(model, MaskRule(Amount(share=share), "global", is_random=is_random), rounds=rounds)
    torch.manual_seed(0)
    chosen = [(module, "weight") for module in pruned_modules(oracle)]
    size = sum(module.weight.numel() for module, _ in chosen)
    for (count,) in torch_counts([size], share, rounds):
        prune.global_unstructured(chosen, theirs, amount=count)
    same(model, oracle, history[-1])


@pytest.mark.parametrize("build", [network, tied])
@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_slices_by_norm_equal_torch(build, rounds, norm, dim, share):
    model, oracle = build(), build()
    history = grow(model, MaskRule(Amount(share=share), dim=dim, norm=norm), rounds=rounds)
    modules = pruned_modules(oracle)
    for counts in torch_counts([module.weight.shape[dim] for module in modules], share, rounds):
        for module, count in zip(modules, counts):
            prune.ln_structured(module, "weight", amount=count, n=norm, dim=dim)
    same(model, oracle, history[-1])


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("dim", [0, 1])
def test_random_slices_equal_torch(rounds, dim):
    model, oracle = network(), network()
    history = grow(model, MaskRule(Amount(share=0.5), dim=dim, is_random=True), rounds=rounds)
    torch.manual_seed(0)
    modules = pruned_modules(oracle)
    for counts in torch_counts([module.weight.shape[dim] for module in modules], 0.5, rounds):
        for module, count in zip(modules, counts):
            if count:  # for nothing to remove torch draws no numbers
                prune.random_structured(module, "weight", amount=count, dim=dim)
            else:
                torch.rand(int(module.weight.movedim(dim, 0).flatten(1).any(1).sum()))
    same(model, oracle, history[-1])


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("schedule", ["agp", "linear"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_rounds_reach_what_was_asked_and_do_not_compound(scope, schedule, share):
    model = network()
    weights = find_weights(model)
    masks, generator = full_masks(weights), torch.Generator()
    size = sum(weight.parameter.numel() for weight in weights)
    slack = 1 if scope == "global" else len(weights)  # half a weight of rounding in each layer
    for progress in progress_of(schedule, 3):
        before = masks
        masks = grow_masks(weights, masks, MaskRule(Amount(share=share), scope), progress=progress, generator=generator)
        assert not any((masks[name] & ~before[name]).any() for name in masks), "what is removed stays removed"
        removed = sum(int((~mask).sum()) for mask in masks.values())
        assert abs(removed - share * progress * size) <= slack
    apply_masks(model, masks)
    assert sum(row.num_zero for row in measure_sparsity(weights)) == removed


def test_ties_give_exactly_the_count():
    model = network()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    for share in SHARES:
        masks = grow(copy.deepcopy(model), MaskRule(Amount(share=share), "global"))[-1]
        sizes = sum(mask.numel() for mask in masks.values())
        assert sum(int((~mask).sum()) for mask in masks.values()) == round(share * sizes)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("is_random", [False, True])
@pytest.mark.parametrize("dim", [None, 0])
def test_every_layer_keeps_its_floor(scope, is_random, dim):
    model = network()
    with torch.no_grad():
        model[0].weight.mul_(1e-3)  # a global choice would empty this layer
    rule = MaskRule(Amount(share=0.8), scope, is_random=is_random, dim=dim, min_keep=0.15)
    for mask in grow(model, rule, rounds=3)[-1].values():
        units = mask.flatten(1).any(1) if dim == 0 else mask.flatten()
        assert int(units.sum()) >= math.ceil(0.15 * len(units))


def test_the_floor_moves_what_it_saves_to_other_layers():
    model = network()
    with torch.no_grad():
        model[0].weight.mul_(1e-3)
    masks = grow(model, MaskRule(Amount(share=0.8), "global", min_keep=0.15))[-1]
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.8 * sum(m.numel() for m in masks.values()))
    with pytest.raises(UsageError, match="--min-keep"):
        grow(network(), MaskRule(Amount(share=0.9), "global", min_keep=0.5))


def test_a_floor_keeps_at_least_one():
    for min_keep, left in ((0.0, 0), (0.01, 1)):
        model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
        masks = grow(model, MaskRule(Amount(share=0.99), min_keep=min_keep))[-1]
        assert [int(mask.sum()) for mask in masks.values()] == [left, left]


def test_slices_across_layers_are_compared_by_their_mean():
    """Without it every slice of a wide layer would outrank those of a narrow one."""
    model = nn.Sequential(nn.Linear(4, 10), nn.Linear(10, 400), nn.Linear(400, 10))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
        model[2].weight.mul_(0.9)
    for norm in (1, 2):
        masks = grow(copy.deepcopy(model), MaskRule(Amount(count=5), "global", dim=0, norm=norm))[-1]
        assert [int((~mask).any(1).sum()) for mask in masks.values()] == [0, 0, 5]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_count_larger_than_what_is_there_is_refused(scope):
    with pytest.raises(UsageError, match="--count"):
        grow(network(), MaskRule(Amount(count=10**6), scope))


def test_a_dimension_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match=r"--dim 2: 5.weight has 2 dimensions"):
        grow(network(), MaskRule(Amount(share=0.5), dim=2))


def test_random_masks_follow_their_seed_and_leave_the_global_state():
    state = torch.get_rng_state()
    first, again, other = (
        grow(network(), MaskRule(Amount(share=0.5), is_random=True), seed=seed)[-1]["5.weight"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.set_rng_state(state)
    grow(model := network(), MaskRule(Amount(share=0.5), is_random=True))
    assert total_sparsity(measure_sparsity(find_weights(model))) == pytest.approx(0.5, abs=0.01)
