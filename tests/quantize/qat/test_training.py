"""Quantization-aware training: what it starts from, what is frozen when, what is converted, and what is kept."""

import copy
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

import dlkit
from dlkit.config import load_mapping
from dlkit.core.modelfile import build_from_file, load_model, read_model_file
from dlkit.core.training import pick_tuning_config
from dlkit.errors import Interrupted
from dlkit.events import Note, ignore
from dlkit.quantize import Recipe, pick_reduce, save_quantized
from dlkit.quantize.graph import Product, convert, observed_tensors, prepare
from dlkit.quantize.observe import ActivationRounding, WeightRounding
from dlkit.quantize.ptq import calibrate, observe_network
from dlkit.quantize.qat import (
    Phases,
    QatSettings,
    build_qat,
    is_chance,
    prepare_training,
    quantize_aware,
    switch_observers,
    train_quantized,
)

CPU = torch.device("cpu")
BACKENDS = [name for name in ("x86", "fbgemm", "qnnpack") if name in torch.backends.quantized.supported_engines]
CONFIG = {
    "data": {"name": "digits", "batch_size": 64, "val": 0.2},
    "model": {"name": "small_cnn", "width": 8},
    "optimizer": {"name": "adamw", "lr": 0.01},
    "train": {"epochs": 8},
    "log": {"tensorboard": False},
}


def recipe_for(backend="x86", mode="qat"):
    return Recipe(mode, backend, reduce=pick_reduce(backend))


class Mixed(nn.Module):
    """Convolutions fused with a batch norm, a batch norm that stands alone, a residual sum, squeeze and excitation."""

    def __init__(self, channels=8):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU6()
        )
        self.norm = nn.BatchNorm2d(channels)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.after = nn.BatchNorm2d(channels)
        self.activation = nn.Hardswish()
        self.squeeze = nn.Sequential(nn.Conv2d(channels, 4, 1), nn.ReLU(), nn.Conv2d(4, channels, 1), nn.Hardsigmoid())
        self.head = nn.Linear(channels, 10)

    def forward(self, inputs):
        x = self.stem(inputs)
        y = self.activation(self.after(self.depthwise(torch.relu(self.norm(x)))))
        y = y * self.squeeze(y.mean((2, 3), keepdim=True))
        return self.head((x + y).mean((2, 3)))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A small network trained on the digits, as a file."""
    result = dlkit.train(CONFIG, out=tmp_path_factory.mktemp("digits") / "run")
    return read_model_file(result.model_path)


def settings_for(file, *, loaded=None, **options):
    return QatSettings(loaded or pick_tuning_config(file, None), file.spec.info, CPU, **{"epochs": 1, **options})


def calibration(file, count=2):
    tuning = build_qat(
        prepare(build_from_file(file), recipe_for(), torch.zeros(2, 1, 8, 8)), settings_for(file), ignore
    )
    return [batch.inputs for batch, _ in zip(tuning.data.val.batches(), range(count), strict=False)]


def static_of(network, batches, backend="x86"):
    """The static int8 network and its recipe, as training for int8 is given them."""
    recipe = recipe_for(backend, mode="static")
    return convert(observe_network(network, recipe, batches), recipe), recipe


def prepared_mixed(backend="x86"):
    torch.manual_seed(0)
    network = Mixed().eval()
    prepared = prepare(network, recipe_for(backend), torch.rand(2, 1, 8, 8))
    switch_observers(prepared, is_on=True)
    calibrate(prepared, [torch.rand(16, 1, 8, 8)])
    return prepared


def scales(prepared):
    """Ends of the ranges of activations."""
    rounding = [module for module in prepared.modules() if isinstance(module, ActivationRounding)]
    return torch.stack([end for module in rounding for end in (module.low, module.high)])


def switch_rounding(prepared, *, is_on):
    for module in prepared.modules():
        inner = {product.inner for product in prepared.modules() if isinstance(product, Product)}
        if isinstance(module, ActivationRounding | WeightRounding) and module not in inner:
            module.is_on = is_on


def running_means(prepared):
    modules = [module for module in prepared.modules() if isinstance(module, nn.BatchNorm2d)]
    return torch.cat([module.running_mean for module in modules])


@pytest.mark.parametrize("backend", BACKENDS)
def test_switches_change_what_is_computed(backend):
    """Trap 4.12: a toggle that matches nothing is lost without a word."""
    prepared, inputs = prepared_mixed(backend), torch.rand(16, 1, 8, 8)
    switch_observers(prepared, is_on=False)
    with torch.no_grad():
        rounded = prepared(inputs)
        switch_rounding(prepared, is_on=False)
        plain = prepared(inputs)
        switch_rounding(prepared, is_on=True)
        assert torch.equal(prepared(inputs), rounded)
    torch.manual_seed(0)
    torch.testing.assert_close(plain, Mixed().eval()(inputs), rtol=1e-4, atol=1e-5)
    assert (plain - rounded).abs().max() > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_observers_that_are_off_keep_the_ranges(backend):
    prepared, wide = prepared_mixed(backend), 9 * torch.rand(16, 1, 8, 8)
    switch_observers(prepared, is_on=False)
    before = scales(prepared).clone()
    with torch.no_grad():
        prepared(wide)
        assert torch.equal(scales(prepared), before)
        switch_observers(prepared, is_on=True)
        prepared(wide)
    assert not torch.equal(scales(prepared), before)


class Watch:
    """A hook that notes scales and running means at each step, and scales, with the steps so far, at each validation."""

    def __init__(self, stop_at):
        self.stop_at = stop_at
        self.scales, self.means, self.in_validation = [], [], []

    def __call__(self, network, inputs, outputs):
        if not network.training:
            self.in_validation.append((len(self.scales), scales(network).clone()))
            return
        self.scales.append(scales(network).clone())
        self.means.append(running_means(network).clone())
        if len(self.scales) == self.stop_at:
            signal.raise_signal(signal.SIGINT)


def watched(tuning, phases, *, stop_at=-1):
    watch = Watch(stop_at)
    handle = tuning.learner.model.register_forward_hook(watch)
    try:
        train_quantized(tuning, phases, emit=ignore)
    finally:
        handle.remove()
    return watch


def mixed_tuning(digits, **options):
    torch.manual_seed(0)
    settings = settings_for(digits, lr=0.01, **options)
    prepared = prepare_training(Mixed().eval(), recipe_for(), settings, batches=calibration(digits), emit=ignore)
    return build_qat(prepared, settings, ignore)


def test_ranges_and_statistics_move_first_and_stay_later(digits):
    """Traps 4.9 and 4.10, with a batch norm that stands alone besides those fused; validation moves nothing."""
    tuning = mixed_tuning(digits, epochs=2)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in tuning.learner.model.modules()) == 3
    total, per_epoch = tuning.plan.total_steps, tuning.plan.steps_per_epoch
    watch = watched(tuning, Phases(freeze_norms_at=0.5, freeze_ranges_at=0.75))
    are_ranges_moving = [not torch.equal(a, b) for a, b in zip(watch.scales, watch.scales[1:], strict=False)]
    are_means_moving = [not torch.equal(a, b) for a, b in zip(watch.means, watch.means[1:], strict=False)]
    last_range, last_mean = -(-total * 3 // 4) - 1, -(-total // 2) - 1
    assert are_ranges_moving == [step < last_range for step in range(total - 1)]
    assert are_means_moving == [step < last_mean for step in range(total - 1)]
    after_first = [found for step, found in watch.in_validation if step == per_epoch]
    assert after_first and all(torch.equal(found, watch.scales[per_epoch - 1]) for found in after_first)
    # every single batch norm moved in every one of its channels, so none was left out
    assert (watch.means[0] != watch.means[last_mean]).all()


def test_one_epoch_has_all_phases(digits):
    tuning = mixed_tuning(digits, epochs=1)
    watch = watched(tuning, Phases())
    assert not torch.equal(watch.scales[0], watch.scales[-1])
    assert torch.equal(watch.scales[-2], watch.scales[-1])
    assert torch.equal(watch.means[-2], watch.means[-1])


def test_an_interruption_leaves_no_hook_behind(digits):
    tuning = mixed_tuning(digits, epochs=2)
    with pytest.raises(Interrupted, match="nothing was written"):
        watched(tuning, Phases(), stop_at=3)
    assert not tuning.learner.model._forward_pre_hooks
    before = scales(tuning.learner.model).clone()
    tuning.learner.model(9 * torch.rand(4, 1, 8, 8))
    assert torch.equal(scales(tuning.learner.model), before)


def test_training_starts_from_the_ranges_of_static_quantization(digits):
    network, batches = build_from_file(digits), calibration(digits)
    prepared = prepare_training(network, recipe_for(), settings_for(digits), batches=batches, emit=ignore)
    static, _ = static_of(network, batches)
    start = convert(prepared, recipe_for())
    wanted = {name: value for name, value in static.state_dict().items() if name.endswith(".affines")}
    found = start.state_dict()
    assert len(wanted) > 4
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_conversion_changes_no_range_and_no_weight(backend):
    """Trap 4.11: what is converted is what was trained."""
    recipe, prepared = recipe_for(backend), prepared_mixed(backend)
    low, high = (-64, 63) if recipe.reduce == "weights" else (-128, 127)
    switch_observers(prepared, is_on=False)
    with torch.no_grad():
        prepared(torch.rand(2, 1, 8, 8))
    converted = convert(prepared, recipe)
    products = {name: module for name, module in prepared.named_modules() if isinstance(module, Product)}
    assert sum(product.rounding is not None for product in products.values()) == 6
    for name, product in products.items():
        layer, folded = converted.get_submodule(name), product.folded()
        rounded = product.rounding(folded.weight.detach())
        torch.testing.assert_close(layer.real_weight(), rounded, rtol=1e-5, atol=1e-7)
        assert low <= layer.weight.min() and layer.weight.max() <= high
    for observed in observed_tensors(prepared):
        if (
            observed.source.op == "call_module"
            and (layer := converted.get_submodule(str(observed.source.target))).output
        ):
            assert layer.output == observed.observer.affine()


class FloatInFrontOfDropout(nn.Module):
    """Dropout of a norm's outputs, which are float: read by one layer alone, then by a layer and by a sum in float."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))
        self.drops = nn.ModuleList(nn.Dropout(0.5) for _ in range(2))
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x):
        x = self.drops[0](self.norms[0](x))
        x = self.drops[1](self.norms[1](self.layers[0](x)))
        return self.norms[2](x + self.layers[1](x))


def test_dropout_of_floats_leaves_codes_where_static_quantization_has_them():
    torch.manual_seed(0)
    network, inputs = FloatInFrontOfDropout().eval(), torch.randn(6, 8)
    qat = prepare(network, recipe_for(), inputs)
    static = observe_network(network, recipe_for(mode="static"), [inputs])
    names = [{observed.name for observed in observed_tensors(prepared)} for prepared in (qat, static)]
    assert names[0] == names[1]
    qat(inputs)
    programs = [convert(prepared.eval(), recipe_for()) for prepared in (qat, static)]
    assert programs[0].state_dict().keys() == programs[1].state_dict().keys()
    with torch.no_grad():
        assert (programs[0](inputs) - network(inputs)).abs().max() < 0.3


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_of_one_sign_are_rounded_as_int8_rounds_them(backend):
    """A channel of one sign is rounded symmetrically, too."""
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 3, groups=8)
    with torch.no_grad():
        conv.weight[:4].abs_()
        conv.weight[4:].abs_().neg_()
    recipe, inputs = recipe_for(backend), torch.rand(8, 8, 12, 12)
    prepared = prepare(nn.Sequential(conv).eval(), recipe, inputs)
    calibrate(prepared, [inputs])
    switch_observers(prepared, is_on=False)
    with torch.no_grad():
        rounded, int8 = prepared(inputs), convert(prepared, recipe)(inputs)
    torch.testing.assert_close(rounded, int8, rtol=1e-5, atol=1e-5)


def test_a_channel_of_zeros_does_not_break_training(digits):
    torch.manual_seed(0)
    network = Mixed()
    with torch.no_grad():
        network.stem[0].weight[0] = 0
        network.stem[1].weight[0] = 0
    settings = settings_for(digits, epochs=0.2)
    prepared = prepare_training(network.eval(), recipe_for(), settings, batches=calibration(digits), emit=ignore)
    train_quantized(build_qat(prepared, settings, ignore), Phases(), emit=ignore)
    assert all(parameter.isfinite().all() for parameter in prepared.parameters())


def test_what_the_config_freezes_stays_frozen_through_fusion(digits):
    groups = [{"match": ["stem.*"], "freeze": True}]
    loaded = load_mapping({**CONFIG, "optimizer": {"name": "adamw", "lr": 0.01, "groups": groups}})
    settings = settings_for(digits, loaded=loaded)
    prepared = prepare_training(Mixed().eval(), recipe_for(), settings, batches=calibration(digits), emit=ignore)
    frozen = [name for name, parameter in prepared.named_parameters() if not parameter.requires_grad]
    ones = "norm.layer.weight"  # of a norm that stands alone: what it is folded into
    assert set(frozen) == {"stem.0.layer.weight", "stem.0.norm.weight", "stem.0.norm.bias", ones}


def test_training_is_in_float32_and_recomputes_nothing(digits):
    loaded = load_mapping({**CONFIG, "train": {"epochs": 2, "amp": "bf16", "gradient_checkpointing": True}})
    notes = []
    prepared = prepare(build_from_file(digits), recipe_for(), torch.zeros(2, 1, 8, 8))
    tuning = build_qat(prepared, settings_for(digits, loaded=loaded), notes.append)
    assert tuning.learner.scoring.precision.name == "fp32"
    assert ["recomputed activations" in note.text for note in notes if isinstance(note, Note)] == [True]


def outputs(network, inputs, backend="x86"):
    with torch.no_grad():
        return network(inputs)


def spoiled(network):
    """A network that knows nothing, so that whatever it is compared with is better for certain."""
    torch.manual_seed(3)
    network = copy.deepcopy(network)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network


@pytest.mark.parametrize(
    ("gained", "lost", "expected"), [(0, 0, True), (1, 0, True), (2, 0, False), (5, 2, False), (5, 3, True), (0, 9, False),
                                     (60, 49, False), (60, 50, True), (50, 60, True), (49, 60, False)],
)  # fmt: skip
def test_what_chance_would_explain_decides_nothing(gained, lost, expected):
    """b - c against the root of b + c, with the samples that both get right or wrong left out of it."""
    trained, static = torch.ones(200, dtype=torch.long), torch.ones(200, dtype=torch.long)
    trained[180:], static[180:] = 0, 0
    static[:gained] = 0
    trained[100 : 100 + lost] = 0
    assert is_chance(trained, static) == expected


def test_pixels_of_a_picture_are_no_samples_of_their_own():
    """Nine pictures that gain 100 pixels each and six that lose as many: 300 more, which is the root of 90,000 independent pixels,
    but no more than a difference of three among fifteen pictures.
    """
    static = torch.full((40,), 500)
    gains = torch.tensor([100] * 9 + [-100] * 6 + [0] * 25)
    assert is_chance(static + gains, static)
    assert not is_chance(static + gains.abs(), static)


@pytest.mark.filterwarnings("ignore:On this CPU")
@pytest.mark.parametrize("backend", BACKENDS)
def test_training_for_int8_on_digits(digits, tmp_path, backend):
    network, batches = build_from_file(digits), calibration(digits)
    before = copy.deepcopy(network.state_dict())
    recipe = recipe_for(backend)
    converted, outcome = quantize_aware(
        network, recipe, settings_for(digits, epochs=2), batches=batches, emit=ignore,
        static=static_of(spoiled(network), batches, backend),
    )  # fmt: skip
    found = outcome.comparison
    float_accuracy = digits.spec.provenance["value"]
    assert (outcome.kept, outcome.recipe.mode) == ("qat", "qat")
    assert found.int8["accuracy"] >= float_accuracy - 0.01
    assert found.agreement >= 0.99
    assert abs(found.int8["accuracy"] - found.fake_quant["accuracy"]) <= 0.004
    assert (found.split, found.num_samples, outcome.steps) == ("val", 288, 36)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())

    path = tmp_path / "int8.pt"
    save_quantized(path, digits.spec, converted, recipe=outcome.recipe, example=batches[0])
    assert torch.equal(outputs(load_model(path), batches[0], backend), outputs(converted, batches[0], backend))


def test_the_same_seed_trains_the_same_network(digits):
    network, batches = build_from_file(digits), calibration(digits)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        converted, _ = quantize_aware(
            network,
            recipe_for(),
            settings_for(digits),
            batches=batches,
            static=static_of(network, batches),
            emit=ignore,
        )
        found.append(outputs(converted, batches[0]))
    assert torch.equal(*found)


def test_training_is_never_worse_than_static(digits):
    network, batches = build_from_file(digits), calibration(digits)
    good, static_recipe = static_of(network, batches)
    notes = []
    kept, outcome = quantize_aware(
        spoiled(network), recipe_for(), settings_for(digits, epochs=0.1, lr=1e-8), batches=batches,
        static=(good, static_recipe), emit=notes.append,
    )  # fmt: skip
    assert kept is good
    assert outcome.kept == "static"
    assert outcome.recipe == static_recipe
    assert any("the static network is kept" in note.text for note in notes if isinstance(note, Note))


def test_what_was_trained_is_kept_on_request(digits):
    network, batches = build_from_file(digits), calibration(digits)
    good, static_recipe = static_of(network, batches)
    notes = []
    settings = replace(settings_for(digits, epochs=0.1, lr=1e-8), keep="trained")
    kept, outcome = quantize_aware(
        spoiled(network), recipe_for(), settings, batches=batches, static=(good, static_recipe), emit=notes.append
    )
    assert kept is not good and outcome.kept == "qat" and outcome.recipe.mode == "qat"
    assert not any("is kept" in note.text for note in notes if isinstance(note, Note))


def test_without_validation_the_training_samples_decide(digits):
    loaded = load_mapping({**CONFIG, "data": {**CONFIG["data"], "val": "none", "limit": 200}})
    network, batches, notes = build_from_file(digits), calibration(digits), []
    _, outcome = quantize_aware(
        network, recipe_for(), settings_for(digits, loaded=loaded), batches=batches, static=static_of(network, batches),
        emit=notes.append,
    )  # fmt: skip
    assert outcome.comparison.split == "train"
    assert outcome.comparison.num_samples == 200
    assert outcome.comparison.metric in ("accuracy", "loss")
    assert sum("no validation split" in note.text for note in notes if isinstance(note, Note)) == 2
