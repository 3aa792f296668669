"""The loss of a network with an auxiliary head, in a training step."""

import torch
import torch.nn.functional as F

from dlkit.config import Loss
from dlkit.core.data import DataInfo
from dlkit.core.models import AuxiliaryOutputs, main_output
from dlkit.core.scoring import build_loss


def test_both_losses_are_in_it():
    info = DataInfo("classification", "image", (3, 4, 4), 5, None, None, None)
    loss = build_loss(
        Loss(class_weights=[1.0, 2.0, 0.5, 1.0, 3.0]), info, targets=lambda: torch.arange(5), device=torch.device("cpu")
    )
    torch.manual_seed(0)
    main, auxiliary = (torch.randn(6, 5, requires_grad=True) for _ in range(2))
    targets = torch.tensor([0, 1, 2, 3, 4, 4])
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    found, weight = loss(AuxiliaryOutputs(main, auxiliary, 0.3), targets)
    expected = [F.cross_entropy(one, targets, weights) for one in (main, auxiliary)]
    torch.testing.assert_close(found, expected[0] + 0.3 * expected[1], rtol=1e-6, atol=0)
    assert weight == 1 + 2 + 0.5 + 1 + 3 + 3
    found.backward()
    assert main.grad.abs().sum() > 0 and auxiliary.grad.abs().sum() > 0


def test_what_the_network_is_for():
    main = torch.zeros(1)
    assert main_output(AuxiliaryOutputs(main, torch.ones(1), 1.0)) is main and main_output(main) is main
