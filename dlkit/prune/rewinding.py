"""Earlier weights to go back to after pruning: of a training checkpoint, of a model file, or from before training.

Rewinding to an epoch above 0 keeps accuracy where the very first weights no longer do (Frankle et al. 2019,
arXiv:1903.01611).
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from dlkit.config import load_mapping
from dlkit.core.modelfile import ModelFile
from dlkit.core.models import build_model, load_initial_weights, read_state_dict, resolve_arch
from dlkit.core.random_state import seeded
from dlkit.errors import FileRefused, UsageError

INIT = "init"


def read_rewind_weights(
    wanted: str, file: ModelFile, network: nn.Module, *, model: str | None = None
) -> Mapping[str, Tensor]:
    """The state dict that `--rewind` names: `init`, or the path of a checkpoint or model file of the same network.

    `init` draws the weights again with the seed of the file's config, as training drew them. Raises FileRefused for a file
    that is no such thing or of another network, and UsageError where the first weights are not known.
    """
    state = _initial_weights(file, model) if wanted == INIT else read_state_dict(Path(wanted))
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
        network = build_model(resolve_arch(arch, model))
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
