"""Zeros stay zeros through training, and nothing that handles a network notices the masks."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from dlkit.config import load_mapping
from dlkit.core.stopping import StopRequest
from dlkit.core.torchfile import read_torch_file
from dlkit.core.training import NoRecords, Row, build_job, fit
from dlkit.core.training.folder import save_checkpoint
from dlkit.events import ignore
from dlkit.prune import Amount
from dlkit.prune.masks import (
    MaskedRecords,
    MaskRule,
    apply_masks,
    find_weights,
    full_masks,
    grow_masks,
    masked_gradients,
)

CONFIG = {
    "data": {"name": "digits", "batch_size": 64, "limit": 256, "val": "none"},
    "model": {"name": "small_cnn", "width": 4},
    "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "train": {"epochs": 2},
}


def job_of(**sections):
    return build_job(load_mapping(CONFIG | sections), emit=ignore)


def half_masked(network, share=0.5):
    weights = find_weights(network)
    masks = grow_masks(weights, full_masks(weights), MaskRule(Amount(share=share)), generator=torch.Generator())
    apply_masks(network, masks)
    return masks


def train(job, masks, records=None):
    with masked_gradients(job.learner.model, masks):
        fit(job.learner, job.data, job.plan, MaskedRecords(masks, records), stop=StopRequest(), emit=ignore)


def holds(network, masks):
    """Whether every masked weight is zero, and not only those."""
    state = network.state_dict()
    assert any(state[name][mask].ne(0).any() for name, mask in masks.items())
    return all(not state[name][~mask].any() for name, mask in masks.items())


@pytest.mark.parametrize(
    "optimizer", [{"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}, CONFIG["optimizer"]]
)
def test_training_equals_that_of_torchs_own_masks(optimizer):
    job = job_of(
        optimizer=optimizer,
        schedule="constant",
        model={"name": "small_cnn", "width": 4, "dropout": 0},
        train={"epochs": 2, "channels_last": False},  # torch's masks cannot be made in another memory layout
    )
    oracle = copy.deepcopy(job.learner.model)
    masks = half_masked(job.learner.model)
    for weight in find_weights(oracle):
        prune.l1_unstructured(oracle.get_submodule(weight.layer), "weight", amount=0.5)
    decayed = [parameter for parameter in oracle.parameters() if parameter.ndim > 1]
    rest = [parameter for parameter in oracle.parameters() if parameter.ndim <= 1]
    kind = torch.optim.SGD if optimizer["name"] == "sgd" else torch.optim.AdamW
    options = {key: value for key, value in optimizer.items() if key != "name"}
    options["fused"] = kind is torch.optim.AdamW  # as dlkit has it
    stepper = kind([{"params": decayed}, {"params": rest, "weight_decay": 0.0}], **options)
    train(job, masks)
    oracle.train()
    for epoch in range(2):
        for batch in job.data.train.batches(epoch):
            stepper.zero_grad()
            F.cross_entropy(oracle(job.learner.scoring.arrange(batch.inputs)), batch.targets).backward()
            stepper.step()
    for weight in find_weights(job.learner.model):
        prune.remove(oracle.get_submodule(weight.layer), "weight")
    theirs = oracle.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in job.learner.model.state_dict().items())
    assert holds(job.learner.model, masks)


def test_without_the_hooks_zeros_come_back():
    """So the tests here can fail."""
    job = job_of()
    masks = half_masked(job.learner.model)
    fit(job.learner, job.data, job.plan, NoRecords(), stop=StopRequest(), emit=ignore)
    assert not holds(job.learner.model, masks)


def test_names_order_and_copies_stay_as_they_were():
    job = job_of()
    network = job.learner.model
    names, keys = [name for name, _ in network.named_parameters()], list(network.state_dict())
    masks = half_masked(network)
    train(job, masks)
    assert [name for name, _ in network.named_parameters()] == names and list(network.state_dict()) == keys
    again = copy.deepcopy(network)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in network.state_dict().items())
    with masked_gradients(network, masks):
        copy.deepcopy(network)
    assert not any(parameter._backward_hooks for parameter in network.parameters())


def test_the_moving_average_is_masked_too():
    job = job_of(ema={"decay": 0.9})
    masks = half_masked(job.learner.model)
    apply_masks(job.learner.ema.model, masks)
    train(job, masks)
    assert job.learner.ema.num_updates == 8
    assert holds(job.learner.model, masks) and holds(job.learner.ema.model, masks)


class SaveAt(NoRecords):
    """A checkpoint after a number of steps."""

    def __init__(self, folder, step):
        self.folder, self.step = folder, step

    def add_step(self, learner, result):
        if learner.position.step == self.step:
            save_checkpoint(self.folder, learner, {})

    def add_epoch(self, learner, row: Row):
        pass


def test_resuming_a_masked_run_is_exact(tmp_path):
    settings = {"ema": {"decay": 0.9}}
    whole = job_of(**settings)
    masks = half_masked(whole.learner.model)
    train(whole, masks, SaveAt(tmp_path, 3))
    resumed = job_of(**settings)
    resumed.learner.load_state_dict(read_torch_file(tmp_path / "last.pt"))
    assert holds(resumed.learner.model, masks)
    train(resumed, masks)
    for mine, other in (
        (whole.learner.model, resumed.learner.model),
        (whole.learner.ema.model, resumed.learner.ema.model),
    ):
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in mine.state_dict().items())


class Tied(nn.Module):
    """A language model's usual tie: the head shares the embedding's weight."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.middle = nn.Linear(8, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.middle(self.embedding(x)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 8, num_layers=2, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


FLOATS, TOKENS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)), torch.arange(10).reshape(2, 5)
HARD = {
    "attention": (Attention, FLOATS, {"attention.in_proj_weight", "attention.out_proj.weight"}),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        FLOATS,
        {"self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"},
    ),
    "lstm": (Recurrent, FLOATS, {f"lstm.weight_{kind}_l{layer}" for kind in ("ih", "hh") for layer in (0, 1)}),
    "tied": (Tied, TOKENS, {"middle.weight", "head.weight"}),
}


@pytest.mark.parametrize("name", HARD)
def test_layers_that_torchs_masks_break(name):
    build, inputs, names = HARD[name]
    network = build()
    masks = half_masked(network)
    assert set(masks) == names
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with masked_gradients(network, masks):
        for _ in range(2):
            optimizer.zero_grad()
            network.train()(inputs).square().mean().backward()
            optimizer.step()
            apply_masks(network, masks)
    assert holds(network, masks)
    assert all(not torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    with torch.no_grad():  # the fast path of evaluation reads the same weights
        trained = network.train().apply(
            lambda module: setattr(module, "p", 0.0) if isinstance(module, nn.Dropout) else None
        )
        for module in trained.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
        expected = trained(inputs)
        assert torch.allclose(network.eval()(inputs), expected, atol=1e-5)
    copy.deepcopy(network)


def test_a_shared_weight_is_masked_once_and_stays_shared():
    network = Tied()
    masks = half_masked(network)
    assert network.head.weight is network.embedding.weight
    assert int((network.embedding.weight == 0).sum()) == 80 == int((~masks["head.weight"]).sum())
