"""What several processes change about a network before it trains: what they refuse, and batch norms over all of them."""

from torch import nn

from dlkit.config import LoadedConfig
from dlkit.core.distributed import World, sync_batch_norms
from dlkit.core.scoring import Precision
from dlkit.core.training.optimizers import ResolvedOptimizer
from dlkit.events import Emit, Note

SMALL_BATCH = 16


def check_sharing(loaded: LoadedConfig, network: nn.Module, world: World, precision: Precision) -> None:
    """Raise ConfigError for what a model that is cut over processes cannot do."""
    if not world.lockstep:
        return
    if precision.name == "fp16":
        raise loaded.error(("train", "amp"), "fp16 does not go with runtime.parallel: fsdp; use bf16 or off")
    if loaded.config.train.compile:
        raise loaded.error(("train", "compile"), "does not go with runtime.parallel: fsdp; use ddp")
    if loaded.config.train.channels_last is True:
        raise loaded.error(("train", "channels_last"), "does not go with runtime.parallel: fsdp; use auto, or ddp")
    if scalars := [name for name, parameter in network.named_parameters() if parameter.ndim == 0]:
        raise loaded.error(
            ("runtime", "parallel"), f"fsdp cannot cut {scalars[0]}, a parameter that is a single number; use ddp"
        )


def check_whole_matrices(loaded: LoadedConfig, optimizer: ResolvedOptimizer, world: World) -> None:
    """Raise ConfigError for an optimizer of whole matrices where weights are cut over processes."""
    if world.lockstep and optimizer.others is not None:
        message = f"{optimizer.section.name} works on whole matrices, which runtime.parallel: fsdp cuts; use ddp"
        raise loaded.error(("optimizer", "name"), message)


def sync_norms(loaded: LoadedConfig, network: nn.Module, world: World, emit: Emit) -> None:
    """Let batch norms work on the batches of all processes, in place, where the config asks for it."""
    num_norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    if world.is_alone or not num_norms:
        return
    if loaded.config.train.sync_bn:
        emit(Note(f"{sync_batch_norms(network)} batch norms take the batches of all {world.size} processes together"))
    elif loaded.config.data.batch_size < SMALL_BATCH:
        size = loaded.config.data.batch_size
        emit(Note(f"each process's batch norms see {size} samples at a time; train.sync_bn=true lets them see all"))
