"""The config that a model file was trained with, without code of the user's own: a file never causes an import of it."""

from collections.abc import Iterable
from dataclasses import replace

from dlkit.config import Config, LoadedConfig, load_mapping
from dlkit.core.components import is_import_path
from dlkit.core.modelfile import ModelFile
from dlkit.errors import UsageError


def own_config(file: ModelFile) -> LoadedConfig:
    """The config that a model file was trained with.

    Raises UsageError when the file has none, or when its data is code that the file may not name.
    """
    if not file.spec.config:
        raise UsageError(f"{file.path} does not tell what it was trained on; name the data: --data CFG")
    loaded = _without_download(load_mapping(dict(file.spec.config)))
    refuse_own_code(file, names_of_data(loaded.config))
    return loaded


def names_of_data(config: Config) -> list[str]:
    """The names of the components that a config's data are made of: the data set and its transforms."""
    data = config.data
    return [data.name, *(transform.name for transform in (*data.transforms, *data.eval_transforms))]


def refuse_own_code(
    file: ModelFile, names: Iterable[str], *, what: str = "", way_out: str = "name its config again: --data CFG"
) -> None:
    """Raise UsageError where one of the names of components is code of the user's own; `what` says of which kind they are."""
    if own_code := next(filter(is_import_path, names), None):
        raise UsageError(f"{file.path} was trained with {what}{own_code}, which is your own code; {way_out}")


def _without_download(loaded: LoadedConfig) -> LoadedConfig:
    """A file may not make anybody fetch data; a config that the user names may."""
    data = loaded.config.data.model_copy(update={"download": False})
    return replace(loaded, config=loaded.config.model_copy(update={"data": data}))
