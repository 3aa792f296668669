import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from dlkit.config import Optimizer as Section
from dlkit.core.components import ComponentError
from dlkit.core.training import (
    build_optimizer,
    check_groups,
    check_optimizer_state,
    freeze_matching,
    frozen_norms,
    resolve_optimizer,
    with_own_kernels,
)
from dlkit.registry import entries


def build(section, model):
    return build_optimizer(resolve_optimizer(section, "mlp"), model)


def names_in(model, group):
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return {by_id[id(parameter)] for parameter in group["params"]}


def test_norms_and_biases_do_not_decay_on_resnet18():
    model = resnet18()
    optimizer = build(Section(name="sgd", lr=0.1, weight_decay=5e-4), model)
    decayed = [group for group in optimizer.param_groups if group["weight_decay"] > 0]
    undecayed = [group for group in optimizer.param_groups if group["weight_decay"] == 0]
    expected = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert set().union(*(names_in(model, group) for group in decayed)) == expected
    assert sum(len(group["params"]) for group in decayed + undecayed) == len(list(model.parameters()))


def test_layer_norms_of_any_shape_and_embeddings():
    model = nn.ModuleDict(
        {
            "embedding": nn.Embedding(5, 4),
            "norm": nn.LayerNorm((4, 4)),
            "group": nn.GroupNorm(2, 4),
            "out": nn.Linear(4, 2),
        }
    )
    optimizer = build(Section(name="adamw", weight_decay=0.1), model)
    decayed = set().union(*(names_in(model, group) for group in optimizer.param_groups if group["weight_decay"] > 0))
    assert decayed == {"embedding.weight", "out.weight"}


def test_decay_norm_bias_takes_all():
    optimizer = build(Section(name="adamw", weight_decay=0.1, decay_norm_bias=True), resnet18())
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}


def test_shared_parameters_come_once():
    first = nn.Linear(4, 4)
    second = nn.Linear(4, 4)
    second.weight = first.weight
    optimizer = build(Section(), nn.Sequential(first, second))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 3


def test_groups_by_glob_the_first_match_wins():
    model = nn.ModuleDict({"body": nn.Linear(4, 4), "fc": nn.Linear(4, 2)})
    groups = [{"match": "fc.*", "lr_mult": 10.0}, {"match": "*", "lr_mult": 0.5, "weight_decay": 0.3}]
    optimizer = build(Section(name="sgd", lr=0.1, weight_decay=0.01, groups=groups), model)
    found = {
        name: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in names_in(model, group)
    }
    assert found["fc.weight"] == (1.0, 0.01) and found["body.weight"] == (0.05, 0.3)
    assert found["fc.bias"] == (1.0, 0.0) and found["body.bias"] == (0.05, 0.0)


def test_frozen_parameters_stay_and_their_norms_stay_in_evaluation_mode():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    section = Section(name="sgd", lr=0.1, groups=[{"match": ["0.*", "1.*"], "freeze": True}])
    assert freeze_matching(model, section.groups) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert frozen_norms(model) == [model[1]]
    optimizer = build(section, model)
    assert set().union(*(names_in(model, group) for group in optimizer.param_groups)) == {"2.weight", "2.bias"}


def test_nothing_left_to_train():
    model = nn.Linear(2, 2)
    model.requires_grad_(False)
    with pytest.raises(ComponentError, match="nothing to train"):
        build(Section(), model)


def test_a_glob_that_matches_nothing_names_what_is_there():
    with pytest.raises(ComponentError, match="matches no parameter; there are, for example, weight"):
        check_groups(Section(groups=[{"match": "wieght", "freeze": True}]), nn.Linear(2, 2))


def test_unknown_option_and_unknown_name():
    with pytest.raises(ComponentError, match="Did you mean 'weight_decay'") as caught:
        resolve_optimizer(Section(name="adamw", weight_deacy=0.1), "mlp")
    assert caught.value.option == "weight_deacy"
    with pytest.raises(ComponentError, match="no optimizer 'adamm'"):
        resolve_optimizer(Section(name="adamm"), "mlp")


def test_learning_rate_auto():
    assert resolve_optimizer(Section(name="sgd"), "small_cnn").lr == 0.05
    assert resolve_optimizer(Section(name="adamw"), "resnet18").lr == 1e-3
    assert resolve_optimizer(Section(name="rmsprop"), "small_cnn").lr == 1e-2
    assert resolve_optimizer(Section(name="rmsprop", lr=0.3), "mlp").lr == 0.3


@pytest.mark.parametrize("name", ["adam", "adamw", "AdamW"])
def test_learning_rate_auto_of_our_own_networks_was_measured(name):
    assert resolve_optimizer(Section(name=name), "small_cnn").lr > 1e-3
    assert (
        resolve_optimizer(Section(name=name), "Small_CNN").lr == resolve_optimizer(Section(name=name), "small_cnn").lr
    )
    assert resolve_optimizer(Section(name=name, lr=2e-3), "small_cnn").lr == 2e-3


@pytest.mark.parametrize("name", entries("optimizers"))
def test_every_optimizer_of_the_registry_moves_the_weights(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = build(Section(name=name, lr=0.01), model)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
    for parameter, first in zip(model.parameters(), before, strict=True):
        assert not torch.equal(parameter, first) and parameter.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sgd", {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
        ("adam", {"betas": [0.8, 0.99], "eps": 1e-6}),
        ("rmsprop", {"alpha": 0.9, "centered": True, "momentum": 0.5}),
    ],
)  # fmt: skip
def test_options_reach_torch(name, options):
    """The same steps as torch's own class with the same options, and torch's own formulas with them."""
    ours, plain = nn.Linear(3, 1, dtype=torch.float64), nn.Linear(3, 1, dtype=torch.float64)
    plain.load_state_dict(ours.state_dict())
    classes = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
    first = build(Section(name=name, lr=0.02, decay_norm_bias=True, **options), ours)
    second = classes[name](plain.parameters(), lr=0.02, **options)
    inputs = torch.randn(16, 3, dtype=torch.float64)
    for _ in range(5):
        for model, optimizer in ((ours, first), (plain, second)):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
    for own, theirs in zip(
        ours.parameters(), plain.parameters(), strict=True
    ):  # Adam's kernel of one pass rounds in its own order
        torch.testing.assert_close(own, theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_kernels_of_one_pass_where_torch_has_them(name):
    groups = build(Section(name=name), nn.Linear(3, 1)).param_groups
    assert [group.get("fused") for group in groups] == [True if name.startswith("adam") else None] * len(groups)
    asked = build(Section(name=name, foreach=True), nn.Linear(3, 1)).param_groups[0]
    assert asked["foreach"] is True and not asked.get("fused")


def test_a_checkpoint_keeps_no_kernels():
    """One of a process with cut parameters, or of before, goes on with those of this one."""
    network = nn.Linear(3, 1)
    optimizer = build(Section(name="adamw"), network)
    network(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["fused"] = None
    check_optimizer_state(state, optimizer)
    found = with_own_kernels(state, optimizer)
    assert all(group["fused"] is True for group in found["param_groups"])
    assert found["state"] is state["state"] and state["param_groups"][0]["fused"] is None


def test_a_network_without_parameters_is_not_called_frozen():
    with pytest.raises(ComponentError, match="the network has no parameters"):
        build(Section(), nn.Flatten())
