"""A network of one's own: dlkit passes `num_classes`, `in_channels` and `input_size` to those who take them."""

from torch import Tensor, nn


class SpiralNet(nn.Module):
    """Two hidden layers."""

    def __init__(self, num_classes: int, input_size: tuple[int, ...], hidden: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(input_size[0], hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
