"""What pruning is judged by: a network's own data, opened once, and the loss that it was trained with."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from dlkit.config.loaded import LoadedConfig
from dlkit.core.data.build import build_data
from dlkit.core.data.contract import Data, DataInfo, Split
from dlkit.core.evaluation.evaluate import Scoring
from dlkit.core.training.precision import pick_precision
from dlkit.core.training.setup import build_scoring
from dlkit.events import Report


@dataclass(frozen=True)
class Evidence:
    """Data and loss for every decision on the way. The test split decides nothing; it is for the report at the end."""

    loaded: LoadedConfig
    data: Data
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

    @property
    def split_words(self) -> tuple[str, int]:
        """Name and size of the split of the report."""
        return self.reporting.name, self.reporting.num_samples


def open_evidence(
    loaded: LoadedConfig, network: nn.Module, info: DataInfo, *, device: torch.device, report: Report
) -> Evidence:
    """Open the config's data for a network that exists. Raises DataError when they are not there or do not fit it."""
    data = build_data(loaded, device=device, seed=loaded.config.seed, known=info, report=report)
    scoring = build_scoring(loaded, data, network, pick_precision("off", device))
    return Evidence(loaded, data, scoring, device)
