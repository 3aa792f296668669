"""Getting accuracy back after pruning: new statistics for batch norm, and training on through the one loop."""

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from dlkit.core.data import Split
from dlkit.core.evaluation import evaluate
from dlkit.core.models import eval_mode
from dlkit.core.scoring import Scoring
from dlkit.core.training import build_fine_tuning, fine_tune, pick_lr
from dlkit.events import Emit, Throttle, Working
from dlkit.prune.masks import MaskedRecords, Masks, masked_gradients
from dlkit.prune.opened_model import TaskData

Norm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Recalibration:
    """The loss on the judging split with the old statistics of batch norm and with new ones, and which were kept."""

    loss_before: float
    loss_after: float

    @property
    def is_kept(self) -> bool:
        """Whether the new statistics are at least as good."""
        return self.loss_after <= self.loss_before


def find_norms(network: nn.Module) -> list[Norm]:
    """Batch norms that keep running statistics."""
    return [
        module
        for module in network.modules()
        if isinstance(module, Norm) and module.running_mean is not None and module.track_running_stats
    ]


def recalibrate_norms(network: nn.Module, task_data: TaskData, *, num_batches: int, emit: Emit) -> Recalibration | None:
    """Measure the statistics of batch norm again over training batches, and keep them if the loss gets no worse.

    They are plain means over the batches, as momentum=None gives them; parameters, dropout and other layers stay as in
    evaluation. None when the network has no batch norm.
    """
    norms = find_norms(network)
    if not norms:
        return None
    before = _judge(network, task_data.judging, task_data.scoring)
    kept = [copy.deepcopy(norm.state_dict()) for norm in norms]
    _measure_statistics(network, norms, task_data.data.train, task_data.scoring, num_batches, emit)
    result = Recalibration(before, _judge(network, task_data.judging, task_data.scoring))
    if not result.is_kept:
        for norm, state in zip(norms, kept, strict=True):
            norm.load_state_dict(state)
    return result


def _judge(network: nn.Module, split: Split, scoring: Scoring) -> float:
    means = evaluate(network, split, scoring)
    assert means is not None
    return means["loss"]


def _measure_statistics(
    network: nn.Module, norms: list[Norm], train: Split, scoring: Scoring, num_batches: int, emit: Emit
) -> None:
    momenta = [norm.momentum for norm in norms]
    total = min(num_batches, train.num_batches)
    with eval_mode(network), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        try:
            throttle = Throttle()
            for index, batch in enumerate(islice(train.batches(), total)):
                if len(batch.inputs) > 1:  # one value has no variance
                    network(scoring.arrange(batch.inputs))
                if throttle.is_due():
                    emit(Working("measuring batch norm", index + 1, total))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


@dataclass(frozen=True)
class Recovery:
    """What is done after each round of pruning: batches to measure batch norm on, then epochs of training, each perhaps none.

    `lr` None is fine-tuning's own choice; after rewinding it is the config's, as training is done again from there.
    """

    num_recal: int = 0
    epochs: float | None = None
    lr: float | None = None
    is_rewound: bool = False


def recover(
    network: nn.Module, masks: Masks | None, recovery: Recovery, task_data: TaskData, *, emit: Emit
) -> Recalibration | None:
    """Recover a pruned network in place, with a new optimizer for its parameters; masked weights stay zero.

    Gives what measuring batch norm again did, before any training. Raises Diverged and Interrupted from training.
    """
    recalibration = None
    if recovery.num_recal:
        recalibration = recalibrate_norms(network, task_data, num_batches=recovery.num_recal, emit=emit)
    if recovery.epochs:
        _train(network, masks, recovery, task_data, emit)
    return recalibration


def _train(network: nn.Module, masks: Masks | None, recovery: Recovery, task_data: TaskData, emit: Emit) -> None:
    loaded = task_data.loaded
    lr = recovery.lr or (pick_lr(loaded.config.optimizer) if recovery.is_rewound else None)
    built = build_fine_tuning(
        loaded, network, task_data.data.info, epochs=recovery.epochs or 0, lr=lr, device=task_data.device, emit=emit
    )
    with masked_gradients(network, masks) if masks else nullcontext():
        fine_tune(built, MaskedRecords(masks) if masks else None, emit=emit)
