"""Muon and other pairs of optimizers against torch's own classes in float64, their state, and what is refused."""

import copy

import pytest
import torch
from torch import nn

from dlkit.config import Optimizer as Section
from dlkit.core.components import ComponentError
from dlkit.core.training import (
    PairedOptimizer,
    build_optimizer,
    check_optimizer_state,
    hidden_matrices,
    resolve_optimizer,
)


def network():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3)
    )
    return layers.double()


INPUTS = torch.randn(12, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def build(section, model):
    return build_optimizer(resolve_optimizer(section, "resnet18"), model)


def step(model, optimizers):
    model(INPUTS).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


class Flat(nn.Module):
    """The network with the filters of its convolution kept as a matrix, for torch's own Muon."""

    def __init__(self):
        super().__init__()
        self.layers = network()
        self.matrix = nn.Parameter(self.layers[0].weight.detach().flatten(1))
        del self.layers[0].weight

    def forward(self, inputs):
        self.layers[0].weight = self.matrix.view(4, 2, 3, 3)
        return self.layers(inputs)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_is_torchs_on_flat_filters_with_adamw_beside_it(layout):
    ours, plain = network().to(memory_format=layout), Flat()
    pair = build(Section(name="muon", lr=0.02, momentum=0.8, others={"name": "adamw", "lr": 0.01}), ours)
    matrices = [plain.matrix, plain.layers[4].weight]
    rest = [one for one in plain.parameters() if all(one is not matrix for matrix in matrices)]
    decayed = [one for one in rest if one.ndim > 1]
    vectors = [one for one in rest if one.ndim <= 1]
    torchs = [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.8),
        torch.optim.AdamW([{"params": decayed}, {"params": vectors, "weight_decay": 0.0}], lr=0.01),
    ]
    for _ in range(4):
        step(ours, [pair])
        step(plain, torchs)
    assert torch.allclose(ours[0].weight.flatten(1), plain.matrix, rtol=0, atol=1e-12)
    for number in (1, 4, 6):
        for own, theirs in zip(ours[number].parameters(), plain.layers[number].parameters(), strict=True):
            assert torch.allclose(own, theirs, rtol=0, atol=1e-12)
    assert not torch.equal(ours[0].weight, network()[0].weight)


def test_any_optimizer_takes_the_matrices():
    ours, plain = network(), network()
    pair = build(Section(name="sgd", lr=0.1, momentum=0.9, others={"name": "rmsprop", "lr": 0.003}), ours)
    matrices = [plain[0].weight, plain[4].weight]
    rest = [one for one in plain.parameters() if all(one is not matrix for matrix in matrices)]
    torchs = [torch.optim.SGD(matrices, lr=0.1, momentum=0.9), torch.optim.RMSprop(rest, lr=0.003)]
    for _ in range(4):
        step(ours, [pair])
        step(plain, torchs)
    for own, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(own, theirs, rtol=0, atol=1e-12)


def test_state_goes_on_bit_by_bit_through_a_checkpoint():
    first = network()
    pair = build(Section(name="muon"), first)
    step(first, [pair])
    second, saved = copy.deepcopy(first), copy.deepcopy(pair.state_dict())
    other = build(Section(name="muon"), second)
    check_optimizer_state(saved, other)
    other.load_state_dict(saved)
    for model, optimizer in ((first, pair), (second, other)):
        for group in optimizer.param_groups:
            group["lr"] *= 0.5
        step(model, [optimizer])
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert len(saved["state"]) == len(list(first.parameters()))


@pytest.mark.parametrize("wrong", ["shape", "kind", "missing"])
def test_state_of_something_else_is_refused(wrong):
    model = network()
    pair = build(Section(name="muon"), model)
    step(model, [pair])
    saved = copy.deepcopy(pair.state_dict())
    if wrong == "shape":
        saved["state"][0]["momentum_buffer"] = torch.zeros(4, 2, 3, 3)
    elif wrong == "kind":
        saved["state"][0] = {"exp_avg": torch.zeros(4, 18)}
    else:
        del saved["param_groups"][0]["ns_steps"]
    with pytest.raises(ValueError, match="optimizer"):
        check_optimizer_state(saved, pair)


def test_what_is_no_hidden_matrix():
    model = nn.ModuleDict(
        {
            "embedding": nn.Embedding(5, 4),
            "attention": nn.MultiheadAttention(4, 2),
            "recurrent": nn.LSTM(4, 4),
            "norm": nn.LayerNorm((4, 4)),
            "head": nn.Linear(4, 2),
        }
    )
    model.register_parameter("positions", nn.Parameter(torch.zeros(1, 3, 4)))
    assert hidden_matrices(model) == {
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "recurrent.weight_ih_l0",
        "recurrent.weight_hh_l0",
    }


REFUSED = [
    (Section(name="muon"), nn.Linear(4, 2), "nothing for muon: no hidden layer has a matrix"),
    (Section(name="muon", adjust_lr_fn="mine"), network(), "muon cannot be built"),
    (Section(name="muon", others={"name": "adamw", "eps": -1}), network(), "adamw cannot be built"),
]


@pytest.mark.parametrize(("section", "model", "words"), REFUSED)
def test_pairs_that_cannot_be_are_refused(section, model, words):
    with pytest.raises(ComponentError, match=words):
        build(section, model)


MISTAKES = {
    "others: adamww": "optimizer.others: no optimizer 'adamww'. Did you mean 'adamw'",
    "others: {name: adamw, bets: [0.9, 0.9]}": "optimizer.others.bets: unknown key for AdamW. Did you mean 'betas'",
    "others: {name: adamw, lr: -1}": "optimizer.others.lr",
    "others: {name: adamw, groups: []}": "optimizer.others.groups: unknown key",
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.items())
def test_mistakes_are_told_with_their_place(dlkit, write_config, text, words):
    path = write_config(f"data: digits\nmodel: mlp\noptimizer:\n  name: muon\n  {text}\n")
    done = dlkit("config", "check", path)
    assert done.code == 2 and "cfg.yaml:5:" in done.err and words in done.err


def test_a_pair_is_one_optimizer_to_the_rest():
    pair = build(Section(name="muon", others={"name": "adamw", "lr": 0.5}), network())
    assert isinstance(pair, PairedOptimizer)
    assert [group["name"] for group in pair.param_groups] == ["all (matrices)", "all (no decay)", "all"]
    assert {group["initial_lr"] for group in pair.param_groups} == {1e-3, 0.5}
