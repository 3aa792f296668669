"""Which networks train channels last when nobody says so."""

import pytest
import torch
from torch import nn

from dlkit.config import load_mapping
from dlkit.core.data import DataInfo
from dlkit.core.scoring import pick_precision
from dlkit.core.training import build_scoring

INFO = DataInfo("classification", "image", (3, 8, 8), 2, ("a", "b"), (0.3,), (0.4,))


@pytest.mark.parametrize(
    ("layer", "is_on"),
    [
        (nn.Conv2d(3, 8, 3, 2), True),
        (nn.Conv2d(3, 8, 1), True),
        (nn.Conv2d(7, 8, 1, 2), True),
        (nn.Conv2d(6, 8, 1, 2), False),  # the backward pass of torch 2.15 ends the process on CPUs with AVX2 alone
        (nn.Conv2d(1, 8, 1, (1, 2)), False),
        (nn.Conv2d(16, 16, 1, 2, groups=16), False),
        (nn.Linear(3, 8), False),
    ],
)
def test_auto(layer, is_on):
    network, precision = nn.Sequential(layer, nn.ReLU()), pick_precision("off", torch.device("cpu"))
    for setting, expected in (("auto", is_on), (True, True), (False, False)):
        loaded = load_mapping({"data": {"name": "digits"}, "model": "mlp", "train": {"channels_last": setting}})
        scoring = build_scoring(loaded, network, precision, info=INFO, targets=lambda: torch.tensor([0, 1]))
        assert scoring.channels_last is expected
