import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlkit.core.metric_rows import pack_rows, unpack_rows
from dlkit.core.torchfile import read_torch_file, save_torch_file

numbers = st.none() | st.floats(allow_nan=False) | st.integers(-(2**53), 2**53)
rows = st.lists(st.dictionaries(st.sampled_from(["step", "val_loss", "train_loss"]), numbers)).map(
    lambda found: [{"epoch": number, **row} for number, row in enumerate(found, 1)]
)


@given(rows)
def test_rows_come_back(given):
    found = unpack_rows(pack_rows(given))
    assert found == [{key: value for key, value in row.items() if value is not None} for row in given]
    assert all(type(row["epoch"]) is int for row in found)


def test_a_long_run_can_be_read_again(tmp_path):
    """Fifty thousand epochs, whose rows one by one would be more than a file may describe."""
    given = [
        {"epoch": epoch, "step": 9 * epoch, **{f"val_{i}": epoch / (i + 3) for i in range(12)}}
        for epoch in range(50_000)
    ]
    save_torch_file(tmp_path / "last.pt", {"history": pack_rows(given)})
    assert unpack_rows(read_torch_file(tmp_path / "last.pt")["history"]) == given


ONE, TWO = torch.tensor([1.0]), torch.tensor([0, 1])


@pytest.mark.parametrize(
    "column",
    [
        [], [ONE], [ONE, TWO], [TWO, ONE.long(), ONE], [ONE[None], ONE.long()], [ONE, ONE], [ONE, ONE - 1],
        [ONE, torch.tensor([-1])], [ONE, torch.tensor([10**12])], [TWO, torch.tensor([1, 0])], [TWO, torch.tensor([0, 0])],
    ],
)  # fmt: skip
def test_other_tensors_are_no_rows(column):
    with pytest.raises(ValueError, match=r"column 'x' is not"):
        unpack_rows({"x": column})
