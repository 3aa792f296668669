import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlkit.core.components import ComponentError
from dlkit.core.models import Swish, build_activation, known_activations
from dlkit.registry import entries

X = torch.tensor([-6.5, -3.0, -1.2, -0.4, 0.3, 0.9, 2.5, 3.5, 7.0], dtype=torch.float64)
REQUIRED = {"Threshold": {"threshold": 0.1, "value": 20.0}}


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


FORMULAS = {
    "relu": lambda x: x.clamp(min=0),
    "tanh": lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
    "sigmoid": sigmoid,
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "swish": lambda x: x * sigmoid(x),
    "silu": lambda x: x * sigmoid(x),
    "prelu": lambda x: torch.where(x > 0, x, 0.25 * x),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "hardswish": lambda x: x * (x + 3).clamp(0, 6) / 6,
    "hardsigmoid": lambda x: (x + 3).clamp(0, 6) / 6,
    "relu6": lambda x: x.clamp(0, 6),
    "elu": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
    "selu": lambda x: 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (torch.exp(x) - 1)),
    "mish": lambda x: x * torch.tanh(torch.log1p(torch.exp(x))),
    "softplus": lambda x: torch.log1p(torch.exp(x)),
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_values_and_gradients_follow_the_formula(name):
    activation = build_activation(name).double()
    torch.testing.assert_close(activation(X), FORMULAS[name](X), rtol=1e-12, atol=1e-12)
    ours, formula = X.clone().requires_grad_(), X.clone().requires_grad_()
    activation(ours).sum().backward()
    FORMULAS[name](formula).sum().backward()
    torch.testing.assert_close(
        ours.grad, formula.grad, rtol=1e-10, atol=1e-8 if name == "hardsigmoid" else 1e-12
    )  # torch holds its 1/6 in float32


def test_every_registered_activation_has_a_formula_here():
    assert set(entries("activations")) <= set(FORMULAS)


@pytest.mark.parametrize("name", known_activations())
def test_every_known_name_builds_and_runs(name):
    activation = build_activation({"name": name, **REQUIRED.get(name, {})})
    assert activation(torch.randn(2, 4, 6, 6)).shape in {(2, 4, 6, 6), (2, 4, 6, 3)}


def test_names_in_any_case():
    assert type(build_activation("HARDTANH")) is nn.Hardtanh
    assert type(build_activation("LeakyReLU")) is nn.LeakyReLU


def test_swish_with_beta_one_is_exactly_silu():
    x = torch.randn(1000)
    assert torch.equal(Swish()(x), F.silu(x))
    assert not list(Swish().parameters())


@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0, -2.0])
def test_learnable_swish_passes_gradcheck_in_x_and_beta(beta):
    swish = build_activation({"name": "swish", "beta": beta, "learnable": True}).double()
    assert swish.beta.ndim == 0
    x = X.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, b: torch.func.functional_call(swish, {"beta": b}, (x,)), (x, swish.beta))
    torch.testing.assert_close(swish(X), X * sigmoid(beta * X))


def test_fixed_beta_is_no_parameter():
    swish = build_activation({"name": "swish", "beta": 1.7})
    assert not list(swish.parameters())
    torch.testing.assert_close(swish(X), X * sigmoid(1.7 * X))


def test_softmax_needs_no_dim_and_does_not_warn():
    torch.testing.assert_close(build_activation("softmax")(torch.zeros(2, 4)), torch.full((2, 4), 0.25))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("rleu", "Did you mean 'relu'"),
        ({"name": "swish", "betta": 1}, "Did you mean 'beta'"),
        ({"name": "threshold"}, "needs 'threshold'"),
        ({"beta": 1}, "a mapping with a name"),
        ("MultiheadAttention", "no activation"),
    ],
)
def test_mistakes_are_named(spec, words):
    with pytest.raises(ComponentError, match=words):
        build_activation(spec)
