"""Getting accuracy back after pruning: batch norm measured again, training on, and earlier weights to train from.

Rewinding to an epoch above 0 keeps accuracy where the very first weights no longer do (Frankle et al. 2019,
arXiv:1903.01611).
"""

import copy
import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from dlkit.config import load_mapping
from dlkit.core.data import Split
from dlkit.core.evaluation import evaluate
from dlkit.core.modelfile import ModelFile
from dlkit.core.models import (
    build_model,
    copy_network,
    eval_mode,
    load_initial_weights,
    match_weights,
    read_state_dict,
    resolve_arch,
)
from dlkit.core.random_state import seeded
from dlkit.core.scoring import Scoring
from dlkit.core.training import build_fine_tuning, fine_tune, pick_lr
from dlkit.errors import FileRefused, UsageError
from dlkit.events import Emit, Note, Throttle, Working
from dlkit.prune.masks import MaskedRecords, Masks, masked_gradients
from dlkit.prune.opened_model import TaskData
from dlkit.prune.request import PruneRequest

INIT = "init"
LR_SHARE = 0.3  # of the config's rate, for a cut that cost nothing (benchmarks/recovery_rates.py)
Norm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Recalibration:
    """The loss on the judging split with the old statistics of batch norm and with new ones, and which of them stay."""

    loss_before: float
    loss_after: float

    @property
    def is_kept(self) -> bool:
        """Whether the new statistics are at least as good."""
        return self.loss_after <= self.loss_before

    @property
    def loss(self) -> float:
        """With the statistics that stay."""
        return self.loss_after if self.is_kept else self.loss_before


@dataclass(frozen=True)
class Recovery:
    """What follows each round of pruning: batches to measure batch norm on, then epochs of training; both may be none.

    Without `lr` the rate follows what the cut cost: `loss` is that of the network before it on the judging split. None is for
    weights that were rewound, whose training starts again at the config's rate. `teacher` distills into it.
    """

    num_recal: int = 0
    epochs: float | None = None
    lr: float | None = None
    loss: float | None = None
    teacher: nn.Module | None = None


def plan_recovery(
    network: nn.Module, request: PruneRequest, task_data: TaskData | None, *, is_rewound: bool
) -> Recovery:
    """Returns what a request asks to follow each round; the network is the one before pruning."""
    is_judged = task_data is not None and request.epochs and request.lr is None and not is_rewound
    loss = _judge(network, task_data) if task_data is not None and is_judged else None
    teacher = copy_network(network) if request.is_distilled else None
    return Recovery(request.picked_recal, request.epochs, request.lr, loss, teacher)


def recover(
    network: nn.Module, masks: Masks | None, recovery: Recovery, task_data: TaskData, *, emit: Emit
) -> Recalibration | None:
    """Recover a pruned network in place, with a new optimizer for its parameters; masked weights stay zero.

    Returns the effect of measuring batch norm again, before any training; None where that is not done. Raises Diverged and
    Interrupted from training.
    """
    recalibration = None
    if recovery.num_recal:
        recalibration = recalibrate_norms(network, task_data, num_batches=recovery.num_recal, emit=emit)
    if recovery.epochs:
        loss = _judge(network, task_data) if recalibration is None else recalibration.loss
        lr = recovery.lr or _pick_lr(recovery, loss, task_data, emit)
        built = build_fine_tuning(
            task_data.loaded,
            network,
            task_data.data.info,
            epochs=recovery.epochs,
            lr=lr,
            device=task_data.device,
            teacher=recovery.teacher,
            emit=emit,
        )
        with masked_gradients(network, masks) if masks else nullcontext():
            fine_tune(built, MaskedRecords(masks) if masks else None, emit=emit)
    return recalibration


def _pick_lr(recovery: Recovery, loss: float, task_data: TaskData, emit: Emit) -> float:
    """The more a cut cost, the nearer to the config's own rate: small steps suffice for small damage, and undo less."""
    config = task_data.loaded.config
    whole = pick_lr(config.optimizer, config.model.name)
    if recovery.loss is None:
        return whole
    ratio = loss / recovery.loss if recovery.loss > 0 else math.inf
    share = min(1.0, LR_SHARE * ratio) if math.isfinite(ratio) else 1.0
    losses = f"the cut took the loss from {recovery.loss:.3g} to {loss:.3g}"
    emit(
        Note(
            f"training on at a learning rate of {share * whole:.2g}, {share:.0%} of the config's: {losses}; --lr sets it"
        )
    )
    return share * whole


def recalibrate_norms(network: nn.Module, task_data: TaskData, *, num_batches: int, emit: Emit) -> Recalibration | None:
    """Measure the statistics of batch norm again over training batches, and keep them if the loss gets no worse.

    They are plain means over the batches, as with momentum=None; parameters, dropout and other layers stay as in evaluation.
    Returns None when the network has no batch norm. The network's mode does not change.
    """
    norms = find_norms(network)
    if not norms:
        return None
    before = _judge(network, task_data)
    kept = [copy.deepcopy(norm.state_dict()) for norm in norms]
    _measure_statistics(network, norms, task_data.data.train, task_data.scoring, num_batches, emit)
    result = Recalibration(before, _judge(network, task_data))
    if not result.is_kept:
        for norm, state in zip(norms, kept, strict=True):
            norm.load_state_dict(state)
    return result


def _judge(network: nn.Module, task_data: TaskData) -> float:
    means = evaluate(network, task_data.judging, task_data.scoring)
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


def find_norms(network: nn.Module) -> list[Norm]:
    """Batch norms that keep running statistics."""
    return [
        module
        for module in network.modules()
        if isinstance(module, Norm) and module.running_mean is not None and module.track_running_stats
    ]


def read_rewind_weights(
    wanted: str, file: ModelFile, network: nn.Module, *, model: str | None = None
) -> Mapping[str, Tensor]:
    """The state dict that `--rewind` names: `init`, or the path of a checkpoint or model file of the same network.

    For `init` the weights are drawn again with the seed of the file's config, as training drew them. Raises FileRefused for a
    file of another kind or another network, and UsageError where the first weights are not known.
    """
    state = _initial_weights(file, model) if wanted == INIT else read_state_dict(Path(wanted))
    state = match_weights(network, state, source=wanted, strict_head=True).reading.state
    _check_same_shapes(Path(wanted), state, network)
    return state


def _initial_weights(file: ModelFile, model: str | None) -> Mapping[str, Tensor]:
    arch = file.spec.arch
    if not file.spec.config or file.spec.transforms:
        raise UsageError(
            f"--rewind init: {file.path} does not tell how its first weights were drawn; name a checkpoint of its run"
        )
    config = load_mapping(dict(file.spec.config)).config
    with seeded(config.seed):
        network = build_model(resolve_arch(arch, model), input_size=file.spec.info.input_size)
        if config.model.weights is not None:
            load_initial_weights(network, arch, config.model.weights)
    return network.state_dict()


def _check_same_shapes(path: Path, state: Mapping[str, Tensor], network: nn.Module) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if own != given:
        name = next(name for name in [*own, *given] if own.get(name) != given.get(name))
        raise FileRefused(
            path,
            f"weights of another network than the one that is pruned: {name} is {given.get(name, 'missing')} there "
            f"and {own.get(name, 'missing')} here",
        )
