"""What changes in a job when several processes share it."""

from torch import nn

from dlkit.config import Config, LoadedConfig
from dlkit.core.data import hash_key
from dlkit.core.distributed import World, sync_batch_norms
from dlkit.core.random_state import seed_everything
from dlkit.core.scoring import Precision
from dlkit.core.training.optimizers import lr_factor, pick_lr
from dlkit.events import Emit, Note

SMALL_BATCH = 16


def check_sharing(loaded: LoadedConfig, model: nn.Module, world: World, precision: Precision) -> None:
    """Raises ConfigError for what a model that is cut over processes cannot do."""
    if not world.lockstep:
        return
    if precision.name == "fp16":
        raise loaded.error(("train", "amp"), "fp16 does not go with runtime.parallel: fsdp; use bf16 or off")
    if loaded.config.train.compile:
        raise loaded.error(("train", "compile"), "does not go with runtime.parallel: fsdp; use ddp")
    if loaded.config.train.channels_last is True:
        raise loaded.error(("train", "channels_last"), "does not go with runtime.parallel: fsdp; use auto, or ddp")
    if scalars := [name for name, parameter in model.named_parameters() if parameter.ndim == 0]:
        raise loaded.error(
            ("runtime", "parallel"), f"fsdp cannot cut {scalars[0]}, a parameter that is a single number; use ddp"
        )


def sync_norms(loaded: LoadedConfig, model: nn.Module, world: World, emit: Emit) -> None:
    """Let batch norms work on the batches of all processes, in place, where the config asks for it."""
    num_norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if world.is_alone or not num_norms:
        return
    if loaded.config.train.sync_bn:
        emit(Note(f"{sync_batch_norms(model)} batch norms take the batches of all {world.size} processes together"))
    elif loaded.config.data.batch_size < SMALL_BATCH:
        size = loaded.config.data.batch_size
        emit(Note(f"each process's batch norms see {size} samples at a time; train.sync_bn=true lets them see all"))


def note_lr(config: Config, world: World, emit: Emit) -> None:
    """Report the learning rate where the number of processes scales it."""
    factor = lr_factor(config.optimizer, world.size)
    if factor != 1:
        lr = pick_lr(config.optimizer)
        emit(Note(f"learning rate {lr:g} x {factor:g} = {lr * factor:g} (lr_scale: {config.optimizer.lr_scale})"))


def spread_random_state(seed: int, world: World) -> None:
    """Random numbers of its own for each process, for dropout; weights were made from the same on all."""
    if world.rank > 0:
        seed_everything(hash_key(seed, world.rank) >> 1)
