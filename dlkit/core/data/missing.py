"""Cells of a table that are missing: filled with the means of the training rows, which the model file keeps."""

from dataclasses import replace

import torch
from torch import Tensor

from dlkit.core.data.contract import TableColumn
from dlkit.core.data.samples import Samples, Source, TensorSamples
from dlkit.core.data.subsets import Subsets
from dlkit.errors import DataError
from dlkit.quantities import counted

MOST_NAMED = 5


def fill_missing(source: Source, subsets: Subsets) -> tuple[Source, Subsets]:
    """Returns source and subsets with means of the training rows where inputs are NaN, if the source asks for that.

    The mean of a column of texts is the share of each text. Raises DataError for a column that no training row has.
    """
    if not source.fills_missing or source.columns is None:
        return source, subsets
    train = subsets.train
    rows = _flat_inputs(train.samples)[train.rows]
    parts = torch.split(rows, [column.num_inputs for column in source.columns], 1)
    columns = tuple(map(_with_fill, source.columns, parts))
    means = torch.tensor([value for column in columns for value in column.fill or ()], dtype=rows.dtype)
    samples = {id(subset.samples): _filled(subset.samples, means) for subset in subsets.listed()}
    new = {subset.name: replace(subset, samples=samples[id(subset.samples)]) for subset in subsets.listed()}
    notes = (*subsets.notes, *_notes(columns, parts))
    return replace(source, columns=columns), Subsets(new["train"], new.get("val"), new.get("test"), notes)


def _flat_inputs(samples: Samples) -> Tensor:
    assert isinstance(samples, TensorSamples)  # tables are
    return samples.inputs.flatten(1)


def _with_fill(column: TableColumn, values: Tensor) -> TableColumn:
    means = values.nanmean(0)
    if means.isnan().any():
        raise DataError(f"column {column.name!r} is empty in all training rows; leave it out of data.features")
    return replace(column, fill=tuple(means.tolist()))


def _filled(samples: Samples, means: Tensor) -> TensorSamples:
    assert isinstance(samples, TensorSamples)
    flat = _flat_inputs(samples)
    return replace(samples, inputs=torch.where(flat.isnan(), means, flat).view(samples.inputs.shape))


def _notes(columns: tuple[TableColumn, ...], parts: tuple[Tensor, ...]) -> list[str]:
    counts = {column.name: int(part[:, 0].isnan().sum()) for column, part in zip(columns, parts, strict=True)}
    found = [f"{name} ({count:,})" for name, count in counts.items() if count]
    if not found:
        return []
    listed = ", ".join(found[:MOST_NAMED]) + (", ..." if len(found) > MOST_NAMED else "")
    number = counted(sum(counts.values()), "cell")
    return [f"{number} of training rows that are missing become the means of the training rows: {listed}"]
