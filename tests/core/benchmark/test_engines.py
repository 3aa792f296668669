"""Engines give eager's outputs or say why not, and leave the process as it was."""

import copy
import logging
import shutil
import sys
import warnings

import pytest
import torch
from torch import nn

from dlkit.core.benchmark import (
    ENGINES,
    STARTERS,
    EngineUnavailable,
    SpeedPlan,
    TimedModel,
    difference_of,
    measure_speeds,
    start_engine,
)
from dlkit.core.models import has_int8_layers
from dlkit.errors import UsageError
from dlkit.quantize.int8 import int8_layers

X = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))
COMPILED = ["compile", "aoti"]
QUICK = [name for name in ENGINES if name not in (*COMPILED, "sparse")]


def outputs(network, inputs):
    with torch.inference_mode():
        return network(inputs)


def expected_shapes(network):
    return {name: layer.expected_shape for name, layer in int8_layers(network).items()}


def test_every_engine_can_be_started():
    assert tuple(STARTERS) == ENGINES


def test_unknown_engines(float_network):
    with pytest.raises(UsageError, match="no engine 'onix'. Did you mean 'onnx'?"):
        start_engine("onix", float_network, X)


def test_networks_tell_what_they_are(float_network, int8_network):
    assert not has_int8_layers(float_network) and has_int8_layers(int8_network)


@pytest.mark.parametrize("name", QUICK)
def test_float_engines_agree_with_eager(float_network, name):
    before = copy.deepcopy(float_network.state_dict())
    other = torch.randn(5, 1, 8, 8)
    started = start_engine(name, float_network, X, more_examples=[other])
    for inputs in (X, other):
        torch.testing.assert_close(started(inputs), outputs(float_network, inputs), rtol=1e-4, atol=1e-5)
    assert started.name == name and started.difference.relative < 1e-4 and started.difference.agreement == 1.0
    assert all(torch.equal(before[key], value) for key, value in float_network.state_dict().items())
    assert all(value.is_contiguous() for value in float_network.state_dict().values())


@pytest.mark.parametrize("name", ["eager", "channels_last", "frozen"])
def test_int8_engines_agree_exactly(int8_network, name):
    started = start_engine(name, int8_network, X, more_examples=[torch.randn(5, 1, 8, 8)])
    assert torch.equal(started(X), outputs(int8_network, X)) and started.difference.largest == 0.0


def test_int8_in_onnxruntime_agrees(int8_network):
    started = start_engine("onnx", int8_network, X, more_examples=[torch.randn(5, 1, 8, 8)])
    assert difference_of(outputs(int8_network, X), started(X)).relative < 0.05


@pytest.mark.slow
def test_compile_agrees_and_leaves_no_settings(float_network):
    import torch._dynamo.config as dynamo
    from torch._inductor import config as inductor

    before = inductor.get_config_copy(), dynamo.get_config_copy()
    started = start_engine("compile", float_network, X)
    assert (inductor.get_config_copy(), dynamo.get_config_copy()) == before and not inductor.freezing
    torch.testing.assert_close(started(X), outputs(float_network, X), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_int8_agrees(int8_network, name):
    other = torch.randn(5, 1, 8, 8)
    own = expected_shapes(int8_network)
    started = start_engine(name, int8_network, X, more_examples=[other])
    for inputs in (X, other):
        assert difference_of(outputs(int8_network, inputs), started(inputs)).relative < 0.02
    assert expected_shapes(int8_network) == own


@pytest.mark.parametrize("name", COMPILED)
def test_compiling_without_a_compiler(float_network, monkeypatch, name):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EngineUnavailable, match=r"needs a C\+\+ compiler") as found:
        start_engine(name, float_network, X)
    assert found.value.engine == name and found.value.reason in str(found.value)


def test_eager_lays_copies_of_int8_out_for_each_shape(int8_network):
    own, seen = expected_shapes(int8_network), []
    layers = set(int8_layers(int8_network).values())

    def look(layer, inputs, output):
        if layer not in layers:
            seen.append((layer.expected_shape, tuple(inputs[0].shape)))

    handles = [layer.register_forward_hook(look) for layer in layers]
    try:
        start_engine("eager", int8_network, X, more_examples=[torch.randn(5, 1, 8, 8)])
    finally:
        for handle in handles:
            handle.remove()
    assert {shape[0] for _, shape in seen} == {2, 5} and not [pair for pair in seen if pair[0] != pair[1]]
    assert expected_shapes(int8_network) == own


def test_warnings_of_networks_are_not_hidden():
    class Warning_(nn.Module):
        def forward(self, x):
            warnings.warn("quantized tensors are deprecated", DeprecationWarning, stacklevel=1)
            return x

    with pytest.warns(DeprecationWarning, match="quantized tensors"):
        start_engine("eager", Warning_().eval(), X)


def test_onnx_without_the_extra(float_network, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineUnavailable, match=r"pip install 'dlkit\[onnx\]'"):
        start_engine("onnx", float_network, X)


def test_openvino_without_the_extra(float_network, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineUnavailable, match=r"OpenVINO is not installed: pip install 'dlkit\[openvino\]'"):
        start_engine("openvino", float_network, X)


def test_channels_last_needs_images():
    with pytest.raises(EngineUnavailable, match="needs images"):
        start_engine("channels_last", nn.Linear(3, 2), torch.randn(2, 3))


def test_other_outputs_than_eagers_are_refused(float_network, monkeypatch):
    monkeypatch.setitem(STARTERS, "frozen", lambda network, examples: lambda inputs: 1.01 * network(inputs))
    with pytest.raises(EngineUnavailable, match=r"differ by 1\.0% of the largest output"):
        start_engine("frozen", float_network, X)
    monkeypatch.setitem(STARTERS, "frozen", lambda network, examples: lambda inputs: network(inputs) * float("nan"))
    with pytest.raises(EngineUnavailable, match="not eager's"):
        start_engine("frozen", float_network, X)


def test_int8_may_differ_by_rounding_but_not_by_classes(int8_network, monkeypatch):
    monkeypatch.setitem(STARTERS, "frozen", lambda network, examples: lambda inputs: 1.04 * network(inputs))
    assert start_engine("frozen", int8_network, X).difference.relative == pytest.approx(0.04, abs=1e-4)
    monkeypatch.setitem(STARTERS, "frozen", lambda network, examples: lambda inputs: -network(inputs))
    with pytest.raises(EngineUnavailable, match="0% of the decisions are the same"):
        start_engine("frozen", int8_network, X)


def test_int8_networks_of_labels_and_numbers_may_not_choose_alike_alone(int8_network, monkeypatch):
    def moved(network, examples):  # the largest output stays, signs change
        return lambda inputs: network(inputs) - 0.3 * network(inputs).abs().max()

    monkeypatch.setitem(STARTERS, "frozen", moved)
    assert start_engine("frozen", int8_network, X).difference.agreement == 1
    for task, words in (("multilabel", "of the decisions"), ("regression", r"is taken\)$")):
        with pytest.raises(EngineUnavailable, match=words):
            start_engine("frozen", int8_network, X, task=task)


class BurntIn(nn.Module):
    """Traces with the batch size of the example."""

    def forward(self, x):
        return x.reshape(int(x.shape[0]), -1)[: int(x.shape[0])]


def test_a_batch_that_is_burnt_into_a_trace_shows():
    assert start_engine("frozen", BurntIn().eval(), X).difference.largest == 0.0
    with pytest.raises(EngineUnavailable, match="frozen"):
        start_engine("frozen", BurntIn().eval(), X, more_examples=[torch.randn(5, 1, 8, 8)])


def test_inputs_that_the_network_does_not_take(float_network):
    with pytest.raises(UsageError, match="does not run on inputs of 2x3x8x8"):
        start_engine("eager", float_network, torch.randn(2, 3, 8, 8))


def test_networks_with_several_outputs_are_refused():
    class Two(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(UsageError, match="gives a tuple"):
        start_engine("eager", Two(), X)


def test_settings_are_put_back_after_an_exception(float_network, monkeypatch):
    def fail(network, examples):
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setitem(STARTERS, "frozen", fail)
    filters, disabled = list(warnings.filters), logging.root.manager.disable
    with pytest.raises(EngineUnavailable, match="RuntimeError: first line$"):
        start_engine("frozen", float_network, X)
    assert list(warnings.filters) == filters and logging.root.manager.disable == disabled
    assert not torch.is_inference_mode_enabled()


def test_differences():
    wanted = torch.tensor([[1.0, 4.0], [3.0, 2.0]])
    found = difference_of(wanted, wanted + torch.tensor([[0.5, 0.0], [0.0, 2.0]]))
    assert (found.largest, found.relative, found.agreement) == (2.0, 0.5, 0.5)
    assert difference_of(wanted, wanted[:1]).relative == float("inf")
    assert difference_of(torch.zeros(2, 3), torch.zeros(2, 3)).relative == 0.0


class Masked(nn.Module):
    """A 1x1 and a 3x3 convolution, a sequence through one linear layer, another behind it; nine of ten weights are zero."""

    def __init__(self):
        super().__init__()
        self.point, self.wide = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.rows, self.head = nn.Linear(8, 6, bias=False), nn.Linear(8 * 8 * 6, 5)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                parameter.data *= torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1)) > 0.9

    def forward(self, x):
        return self.head(self.rows(self.wide(self.point(x))).flatten(1))


def test_masked_networks_run_by_sparse_kernels():
    torch.manual_seed(0)
    network = Masked().eval()
    before, other = copy.deepcopy(network.state_dict()), torch.randn(5, 1, 8, 8)
    started = start_engine("sparse", network, X, more_examples=[other])
    for inputs in (X, other):
        torch.testing.assert_close(started(inputs), outputs(network, inputs), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_sparse_kernels_are_for_masked_float_networks(float_network, int8_network):
    with pytest.raises(EngineUnavailable, match="at least 80% zeros"):
        start_engine("sparse", float_network, X)
    with pytest.raises(EngineUnavailable, match="no sparse kernels for int8"):
        start_engine("sparse", int8_network, X)


def test_sparse_kernels_are_left_out_for_dense_networks_unless_asked_for(float_network, monkeypatch):
    for name in set(ENGINES) - {"sparse"}:
        monkeypatch.setitem(STARTERS, name, STARTERS["eager"])

    def engines(network, asked=ENGINES):
        plan = SpeedPlan((1, 8, 8), torch.device("cpu"), (1,), engines=asked, seconds=0.01)
        speeds = measure_speeds([TimedModel("net", network, False)], plan)
        return [row.engine for row in speeds.rows], [skipped.engine for skipped in speeds.skipped]

    assert engines(float_network) == (list(ENGINES[:-1]), [])
    assert engines(float_network, ("eager", "sparse")) == (["eager"], ["sparse"])
    assert engines(Masked().eval()) == (list(ENGINES), [])
