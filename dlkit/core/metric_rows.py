"""Rows of metrics as a checkpoint holds them: a few tensors whatever their number, as what describes tensors in a file is bounded."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dlkit.run_folders import Row


def pack_rows(rows: Sequence[Row]) -> dict[str, list[Tensor]]:
    """Returns for each column its numbers (float64, int64 if all are whole) and in which rows they are (int64).

    One column at least, the epoch's, has a number in every row.
    """
    columns = dict.fromkeys(name for row in rows for name in row)
    return {name: _pack({at: row[name] for at, row in enumerate(rows) if name in row}) for name in columns}


def _pack(cells: Mapping[int, float | int | None]) -> list[Tensor]:
    numbers = {at: value for at, value in cells.items() if value is not None}
    kind = torch.int64 if all(isinstance(value, int) for value in numbers.values()) else torch.float64
    return [torch.tensor(list(numbers.values()), dtype=kind), torch.tensor(list(numbers), dtype=torch.int64)]


def unpack_rows(columns: Mapping[str, Sequence[Tensor]]) -> list[Row]:
    """Returns the rows again, without what was None. Raises ValueError for what `pack_rows` does not return."""
    lengths = {name: [tensor.numel() for tensor in column if tensor.ndim == 1] for name, column in columns.items()}
    rows: list[Row] = [{} for _ in range(max((max(sizes, default=0) for sizes in lengths.values()), default=0))]
    for name, column in columns.items():
        if len(column) != 2 or lengths[name] != [column[1].numel()] * 2:
            raise ValueError(f"column {name!r:.60} is not numbers and as many rows")
        numbers, places = (tensor.tolist() for tensor in column)
        if places != sorted({at for at in places if isinstance(at, int) and 0 <= at < len(rows)}):
            raise ValueError(f"column {name!r:.60} is not of these rows")
        for at, number in zip(places, numbers, strict=True):
            rows[at][name] = number
    return rows
