import pytest
import torch
import torchvision
from torch import nn

from dlkit.core.models import SummaryRow, lstm, meta_copy, mlp, parameter_count, small_cnn, summarize


def test_rows_of_a_small_network():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    assert summarize(model, (1, 8, 8)) == [
        SummaryRow("0", "Conv2d", (4, 6, 6), 40),
        SummaryRow("1", "ReLU", (4, 6, 6), 0),
        SummaryRow("2", "Flatten", (144,), 0),
        SummaryRow("3", "Linear", (10,), 1450),
    ]


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize(
    ("model", "size"),
    [
        (small_cnn(1, 10, input_size=(1, 28, 28)), (1, 28, 28)),
        (mlp((1, 8, 8), 10), (1, 8, 8)),
        (lstm((1, 8, 8), 10), (1, 8, 8)),
        (torchvision.models.resnet18(num_classes=3), (3, 64, 64)),
        (torchvision.models.VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=3), (3, 16, 16)),
    ],
)
def test_rows_add_up_and_nothing_is_changed(model, size, depth):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = summarize(model, size, depth=depth)
    assert sum(row.num_parameters for row in rows) == parameter_count(model)[0]
    assert all(row.name.count(".") < depth for row in rows)
    assert rows[-1].output_shape is not None
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_shared_and_frozen_parameters():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    assert parameter_count(model) == (24, 20)
    assert sum(row.num_parameters for row in summarize(model, (4,))) == 24


class ReadsValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x) * (2.0 if float(x.sum()) > 0 else 1.0)


def test_a_model_that_needs_values_is_measured_with_zeros():
    assert summarize(ReadsValues(), (4,)) == [SummaryRow("fc", "Linear", (2,), 10)]


def test_a_meta_copy_takes_no_memory_and_leaves_the_model_alone():
    model = nn.LSTM(3, 4, batch_first=True)
    weight = model.weight_ih_l0
    twin = meta_copy(model)
    assert all(parameter.is_meta for parameter in twin.parameters())
    assert model.weight_ih_l0 is weight and not weight.is_meta
    assert twin(torch.empty(2, 5, 3, device="meta"))[0].shape == (2, 5, 4)
