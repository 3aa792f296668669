"""Layer-wise decay of the learning rate: depths of known networks, and steps against torch in float64."""

import json

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, convnext_tiny, googlenet, resnet18

from dlkit.config import Optimizer as Section
from dlkit.core.models import meta_copy
from dlkit.core.training import build_optimizer, find_layer_depths, resolve_optimizer


def beit_depth(name, num_blocks):
    """BEiT's `get_num_layer_for_vit`, with torchvision's names."""
    if name.startswith(("class_token", "encoder.pos_embedding", "conv_proj")):
        return 0
    if name.startswith("encoder.layers"):
        return int(name.split("encoder_layer_")[1].split(".")[0]) + 1
    return num_blocks + 1


def test_a_transformer_has_the_depths_of_beit():
    network = VisionTransformer(image_size=16, patch_size=8, num_layers=3, num_heads=2, hidden_dim=8, mlp_dim=16)
    wanted = {name: beit_depth(name, 3) for name, _ in network.named_parameters()}
    assert find_layer_depths(network, (3, 16, 16)).depths == wanted
    assert find_layer_depths(meta_copy(network), (3, 16, 16)).depths == wanted


def test_residual_networks_go_block_by_block():
    found = find_layer_depths(resnet18(), (3, 32, 32))
    wanted = [("conv1", "bn1"), *((f"layer{a}.{b}",) for a in range(1, 5) for b in range(2)), ("fc",)]
    assert list(found.blocks) == wanted
    assert found.depths["layer2.0.downsample.1.bias"] == 3 and found.depths["bn1.weight"] == 0


def test_norms_in_front_of_a_layer_belong_to_it():
    found = find_layer_depths(convnext_tiny(), (3, 32, 32))
    assert found.depths["features.2.0.weight"] == found.depths["features.2.1.weight"] == 4
    assert found.blocks[-1] == ("classifier.0", "classifier.2") and len(found.blocks) == 1 + 18 + 3 + 1


def test_a_module_of_branches_is_one_block():
    network = googlenet(aux_logits=False, init_weights=False)
    assert len(find_layer_depths(network, (3, 64, 64)).blocks) == 3 + 9 + 1


class Backwards(nn.Module):
    """Layers that are registered in another order than the one in which they run, and one that never does."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(4, 4)
        self.body = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.embedding = nn.Parameter(torch.zeros(4))

    def forward(self, inputs):
        return self.head(self.norm(self.body(inputs + self.embedding)))


def test_the_order_is_that_of_the_calls():
    found = find_layer_depths(Backwards(), (4,))
    assert found.blocks == (("body", "norm"), ("head",), ("unused",))
    assert found.depths["embedding"] == 0 and found.factors(0.5)["body.weight"] == 0.25


def test_a_network_that_fails_goes_by_the_order_of_its_layers():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 2))
    assert find_layer_depths(network, (4,)).blocks == (("0",), ("1",))


@pytest.mark.parametrize("groups", [[], [{"match": "0.*", "lr_mult": 3.0}]])
def test_steps_are_those_of_torch_with_the_rates_by_hand(groups):
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    plain = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    plain.load_state_dict(ours.state_dict())
    section = Section(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.01, layer_decay=0.5, groups=groups)
    resolved = resolve_optimizer(section, "mlp")
    first = build_optimizer(resolved.with_depths(ours.float(), (5,)), ours.double())
    rates = {"0": 0.025 * (3 if groups else 1), "2": 0.05, "3": 0.05, "4": 0.1}
    second = torch.optim.SGD(
        [
            {"params": [parameter], "lr": rates[name[0]], "weight_decay": 0.01 if parameter.ndim > 1 else 0.0}
            for name, parameter in plain.named_parameters()
        ],
        momentum=0.9,
    )
    inputs = torch.randn(9, 5, dtype=torch.float64)
    ours.load_state_dict(plain.state_dict())
    for _ in range(4):
        for model, optimizer in ((ours, first), (plain, second)):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
    assert all(map(torch.equal, ours.parameters(), plain.parameters()))
    assert first.param_groups[0]["lr"] == 0.1 and first.param_groups[0]["name"] == "all, depth 2"


def test_runs_show_their_rates_and_go_on_exactly(dlkit, write_config, straight_and_resumed, same):
    text = """
data: {name: fake, num_samples: 60, shape: [1, 8, 8], num_classes: 3, batch_size: 8, test: none}
model: {name: small_cnn, width: 4}
optimizer: {name: muon, lr: 0.01, layer_decay: 0.5, others: {name: sgd, lr: 0.1, momentum: 0.9}}
schedule: {name: onecycle}
train: {epochs: 2, clip: {norm: 1}}
checkpoint: {every_steps: 3, keep: 9}
log: {tensorboard: false}
"""
    path = write_config(text)
    shown = json.loads(dlkit("train", path, "--dry-run", "--json").out)
    rates = {group["name"]: group["lr"] for group in shown["groups"]}
    assert rates["all, depth 3 (matrices)"] == 0.005 and rates["all, depth 4"] == 0.1
    assert "layer_decay: 0.5" in dlkit("train", path, "--print-config").out
    straight, resumed = straight_and_resumed(path, 3)
    assert all(same(straight[key], resumed[key]) for key in ("state_dict", "optimizer", "learning_rates"))


@pytest.mark.parametrize("value", ["0", "1.5", "fast"])
def test_a_decay_that_is_none_is_refused(dlkit, write_config, value):
    path = write_config(f"data: digits\nmodel: mlp\noptimizer: {{layer_decay: {value}}}\n")
    done = dlkit("config", "check", path)
    assert done.code == 2 and ":3:26" in done.err and "layer_decay" in done.err
