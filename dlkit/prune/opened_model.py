"""What is pruned: a model file, its network, an example of its inputs, and its data where they can be opened."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from dlkit.config import LoadedConfig
from dlkit.core.data import DataInfo, DataSplits, Split, build_data
from dlkit.core.devices import pick_device
from dlkit.core.modelfile import ModelFile, build_from_file, without_auxiliary_head
from dlkit.core.models import random_inputs
from dlkit.core.rewrites import is_quantized
from dlkit.core.scoring import Scoring, pick_precision
from dlkit.core.training import build_scoring, pick_tuning_config
from dlkit.errors import DataError, Diverged, UsageError
from dlkit.events import Emit, Note

NUM_EXAMPLES = 2  # a batch of one hides what goes wrong between samples


@dataclass(frozen=True)
class TaskData:
    """Data and loss for every decision on the way. The test split decides nothing; it is only for the report."""

    loaded: LoadedConfig
    data: DataSplits
    scoring: Scoring
    device: torch.device

    @cached_property
    def judging(self) -> Split:
        """The split that decides: validation, or training where there is none."""
        return self.data.val or self.data.train

    @property
    def reporting(self) -> Split:
        """The split of the report: test, or else the one that decides."""
        return self.data.test or self.judging


@dataclass(frozen=True)
class OpenedModel:
    """A model that can be pruned. `example` is a batch of inputs; `task_data` is None where the data cannot be opened.

    `model` is the class of a user's own network, as it was given on the command line.
    """

    file: ModelFile
    network: nn.Module
    example: Tensor
    task_data: TaskData | None
    device: torch.device
    model: str | None = None

    def original(self) -> nn.Module:
        """Build the network of the file anew."""
        return build_from_file(self.file, model=self.model).to(self.device)


def open_for_pruning(
    file: ModelFile,
    *,
    data: LoadedConfig | None,
    needs_data: bool,
    model: str | None,
    device: str,
    emit: Emit,
) -> OpenedModel:
    """Build a file's network and open its data, or those of `data`.

    Without `needs_data`, data that cannot be opened are only noted. Raises UsageError for a network that is int8 already,
    Diverged for weights that are not finite, DataError and UsageError for data that are needed and missing.
    """
    if is_quantized(file.spec.transforms):
        raise UsageError(f"{file.path} is quantized already; prune the float model first, then quantize what comes out")
    _check_finite(file)
    file = without_auxiliary_head(file, emit)
    target = pick_device(device)
    network = build_from_file(file, model=model).to(target)
    task_data = _open_or_note(file, network, data, target, needs_data, emit)
    return OpenedModel(file, network, _example(file, task_data, target), task_data, target, model)


def _check_finite(file: ModelFile) -> None:
    broken = [name for name, tensor in file.state_dict.items() if not tensor.isfinite().all()]
    if broken:
        where = broken[0] if len(broken) == 1 else f"{broken[0]} and {len(broken) - 1} more tensors"
        raise Diverged(f"{file.path}: values that are not finite (nan or inf) in {where}; nothing can rank them")


def _open_or_note(
    file: ModelFile,
    network: nn.Module,
    data: LoadedConfig | None,
    device: torch.device,
    is_needed: bool,
    emit: Emit,
) -> TaskData | None:
    try:
        loaded = pick_tuning_config(file, data)
        return open_task_data(loaded, network, file.spec.info, device=device, emit=emit)
    except (UsageError, DataError) as error:
        if is_needed or data is not None:
            raise
        emit(Note(f"nothing is judged: {error}"))
        return None


def open_task_data(
    loaded: LoadedConfig, network: nn.Module, info: DataInfo, *, device: torch.device, emit: Emit
) -> TaskData:
    """Open the config's data for a network that exists. Raises DataError when they are not there or do not fit it."""
    data = build_data(loaded, device=device, seed=loaded.config.seed, known=info, emit=emit)
    precision = pick_precision("off", device)
    scoring = build_scoring(loaded, network, precision, info=data.info, targets=data.train.sample_targets)
    return TaskData(loaded, data, scoring, device)


def _example(file: ModelFile, task_data: TaskData | None, device: torch.device) -> Tensor:
    """A batch of real inputs where there are data, otherwise of normally distributed numbers."""
    if task_data is not None:
        return next(iter(task_data.judging.batches())).inputs[:NUM_EXAMPLES]
    return random_inputs(file.spec.info.input_size, NUM_EXAMPLES, device)
