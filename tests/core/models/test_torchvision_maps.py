"""torchvision's networks for segmentation: what they compute, their auxiliary heads, what they cost, and weights for them."""

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from dlkit.config import Model
from dlkit.core.components import ComponentError
from dlkit.core.models import (
    Arch,
    AuxiliaryOutputs,
    build_model,
    build_on_meta,
    guess_classifiers,
    load_initial_weights,
    plan_arch,
)
from dlkit.core.profile import InputSpec, model_from, profile_model

NAMES = torchvision.models.list_models(module=torchvision.models.segmentation)
SMALL = "deeplabv3_mobilenet_v3_large"
LRASPP = "lraspp_mobilenet_v3_large"


def arch_of(name, **options):
    return plan_arch(Model(name=name, **options), input_size=(3, 32, 48), num_outputs=5)


def theirs(name, num_classes=5, **options):
    return torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **options)


def same_weights(name, **options):
    """Both networks with the same weights, ours and torchvision's."""
    torch.manual_seed(0)
    ours, other = build_model(arch_of(name, **options)), theirs(name, **({"aux_loss": True} if options else {}))
    other.load_state_dict(ours.state_dict(), strict=True)
    return ours, other


def test_there_are_six():
    assert len(NAMES) == 6


@pytest.mark.parametrize("name", NAMES)
def test_costs_are_torchs(name):
    network = build_on_meta(arch_of(name))
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        other = theirs(name).eval()
        other(torch.empty(1, 3, 32, 48))
    profile = profile_model(network, [InputSpec((3, 32, 48))], with_memory=False)
    assert 2 * profile.macs == counter.get_total_flops() > 0 and not profile.uncounted
    assert profile.num_parameters == sum(parameter.numel() for parameter in other.parameters())


def test_shapecalc_fetches_no_weights(monkeypatch):
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", None)
    network = model_from(LRASPP).model
    assert (
        sum(parameter.numel() for parameter in network.parameters()) == 3_221_538
    )  # as torchvision says of its weights


@pytest.mark.parametrize("name", ["fcn_resnet50", SMALL, LRASPP])
def test_maps_are_torchvisions(name):
    ours, other = same_weights(name)
    x = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        maps = ours.eval()(x)
        assert maps.shape == (2, 5, 32, 48) and torch.equal(maps, other.eval()(x)["out"])


def test_a_network_that_knows_no_auxiliary_heads_trains():
    ours, other = same_weights(LRASPP)
    x = torch.randn(2, 3, 32, 48)
    maps = ours.train()(x)
    assert torch.equal(maps, other.train()(x)["out"])
    maps.sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_an_auxiliary_head_helps_to_train_and_is_not_run_else():
    ours, other = same_weights(SMALL, aux_weight=0.4)
    x, seed = torch.randn(2, 3, 32, 48), 3
    outputs = []
    for network in (ours.train(), other.train()):
        torch.manual_seed(seed)  # of dropout
        outputs.append(network(x))
    assert isinstance(outputs[0], AuxiliaryOutputs) and outputs[0].weight == 0.4
    assert torch.equal(outputs[0].main, outputs[1]["out"]) and torch.equal(outputs[0].auxiliary, outputs[1]["aux"])
    ours.aux_classifier.forward = None  # whoever runs it now fails
    with torch.no_grad():
        assert ours.eval()(x).shape == (2, 5, 32, 48)


@pytest.mark.parametrize(("name", "options", "words"), [
    (LRASPP, {"aux_weight": 0.4}, "unknown key for lraspp"),
    (SMALL, {"aux_loss": True}, "unknown key for deeplabv3.*aux_weight"),
    (SMALL, {"aux_weight": "much"}, "must be a number from 0"),
    (SMALL, {"aux_weight": -1}, "must be a number from 0"),
])  # fmt: skip
def test_options_that_do_not_fit(name, options, words):
    with pytest.raises(ComponentError, match=words):
        build_on_meta(arch_of(name, **options))


@pytest.mark.parametrize("name", [SMALL, LRASPP])
def test_a_file_for_other_classes_begins_all_heads_anew(name, tmp_path):
    state = theirs(name, 7, **({"aux_loss": True} if name == SMALL else {})).state_dict()
    torch.save(state, tmp_path / "whole.pth")
    network = build_model(arch_of(name))
    report = load_initial_weights(network, Arch("torchvision", name, {}), str(tmp_path / "whole.pth"))
    heads = {SMALL: {"classifier.4"}, LRASPP: {"classifier.low_classifier", "classifier.high_classifier"}}[name]
    assert {tensor.rpartition(".")[0] for tensor in report.head} == heads and bool(report.ignored) == (name == SMALL)
    loaded = network.state_dict()
    assert all(
        torch.equal(loaded[key], value) for key, value in state.items() if key in loaded and key not in report.head
    )
    assert guess_classifiers(state) == [name]


def test_a_file_of_a_classifier_gives_the_backbone(tmp_path):
    classifier = torchvision.models.mobilenet_v3_large()
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    network = build_model(plan_arch(Model(name=LRASPP), input_size=(1, 32, 48), num_outputs=5))
    head = network.classifier.cbr[0].weight.clone()
    report = load_initial_weights(network, Arch("torchvision", LRASPP, {}), str(tmp_path / "classifier.pth"))
    assert "backbone alone" in report.words and report.fitted == ("backbone.0.0.weight",)
    assert torch.equal(network.backbone["16"][0].weight, classifier.features[16][0].weight)
    assert torch.equal(network.backbone["0"][0].weight, classifier.features[0][0].weight.sum(1, keepdim=True))
    assert torch.equal(network.classifier.cbr[0].weight, head)
