"""A GRU over the rows of an image, for the benchmark of dynamic quantization."""

from torch import Tensor, nn


class RowGRU(nn.Module):
    """(N, C, H, W) as H steps of C * W features; the last state goes through a linear head."""

    def __init__(self, num_classes: int, input_size: tuple[int, ...], hidden_size: int = 256) -> None:
        super().__init__()
        channels, _, width = input_size
        self.gru = nn.GRU(channels * width, hidden_size, batch_first=True)
        self.fc = nn.Linear(hidden_size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes)."""
        _, last = self.gru(x.transpose(1, 2).flatten(2))
        return self.fc(last[-1])
