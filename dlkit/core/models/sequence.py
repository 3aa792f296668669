"""A recurrent network over sequences, over the rows of images, or over a vector one feature at a time."""

from collections.abc import Sequence

from torch import Tensor, nn

from dlkit.core.components import ComponentError
from dlkit.core.models.blocks import check_number


class LSTMClassifier(nn.Module):
    """LSTM whose last hidden state (both directions' where there are two) goes through a linear head.

    Takes images (N, C, H, W) as H steps of C * W features, sequences (N, T, F) as they are, vectors (N, F) as F steps
    of one feature; gives logits (N, num_classes).
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            num_features, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional, dropout=dropout
        )
        self.fc = nn.Linear(hidden_size * (2 if bidirectional else 1), num_classes)
        self.num_directions = 2 if bidirectional else 1

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        if x.dim() == 4:
            x = x.transpose(1, 2).flatten(2)
        elif x.dim() == 2:
            x = x.unsqueeze(2)
        _, (hidden, _) = self.lstm(x)
        out: Tensor = self.fc(hidden[-self.num_directions :].transpose(0, 1).flatten(1))
        return out


def lstm(
    input_size: Sequence[int],
    num_classes: int,
    *,
    hidden_size: int = 128,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> LSTMClassifier:
    """Returns an LSTM classifier; `dropout` acts between layers, so it needs at least two.

    Initialized as torch does, but with the forget gate's bias at 1 (Jozefowicz et al., 2015), which helps long rows.
    """
    check_number("hidden_size", hidden_size, least=1, most=16384)
    check_number("num_layers", num_layers, least=1, most=64)
    check_number("dropout", dropout, least=0, most=1, whole=False)
    if dropout and num_layers == 1:
        raise ComponentError("dropout acts between LSTM layers: num_layers must be 2 or more", option="dropout")
    num_features = _count_step_features(input_size)
    model = LSTMClassifier(
        num_features,
        num_classes,
        hidden_size=hidden_size,
        num_layers=num_layers,
        bidirectional=bidirectional,
        dropout=dropout,
    )
    for name, parameter in model.lstm.named_parameters():
        if name.startswith("bias_ih"):
            nn.init.ones_(parameter.data[hidden_size : 2 * hidden_size])
        elif name.startswith("bias_hh"):
            nn.init.zeros_(parameter.data[hidden_size : 2 * hidden_size])
    return model


def _count_step_features(input_size: Sequence[int]) -> int:
    if len(input_size) == 3:
        return input_size[0] * input_size[2]
    return input_size[1] if len(input_size) == 2 else 1
