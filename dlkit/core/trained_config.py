"""The config that a model file was trained with, without code of the user's own: a file never causes an import of it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

from dlkit.config import Config, Data, LoadedConfig, load_mapping
from dlkit.core.components import is_import_path
from dlkit.core.modelfile import ModelFile
from dlkit.errors import FileRefused, UsageError

LARGEST_SIDE = 2**14
MOST_MADE_UP = 2**26


def own_config(file: ModelFile) -> LoadedConfig:
    """The config that a model file was trained with.

    Raises UsageError when the file has none, or when its data is code that the file may not name, FileRefused for data of senseless
    sizes.
    """
    if not file.spec.config:
        raise UsageError(f"{file.path} does not tell what it was trained on; name the data: --data CFG")
    loaded = _without_strain(load_mapping(dict(file.spec.config)))
    refuse_own_code(file, names_of_data(loaded.config))
    _check_sizes(file, loaded.config.data)
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


def _without_strain(loaded: LoadedConfig) -> LoadedConfig:
    """A file may not make anybody fetch data or start processes; a config that the user names may."""
    own = {
        "download": False,
        "num_workers": "auto",
        "prefetch_factor": None,
        "pin_memory": "auto",
        "persistent_workers": "auto",
    }
    data = loaded.config.data.model_copy(update=own)
    return replace(loaded, config=loaded.config.model_copy(update={"data": data}))


def _check_sizes(file: ModelFile, data: Data) -> None:
    """Raise FileRefused where a file asks for more than it takes to judge a network: samples that are made up, or huge images."""
    options = [transform.options for transform in (*data.transforms, *data.eval_transforms)]
    sides = _numbers(
        [*options, data.image_size, data.fitting if isinstance(data.fitting, str) else data.fitting.model_dump()]
    )
    if max(sides, default=0) > LARGEST_SIDE:
        raise FileRefused(
            file.path, f"its data section asks for images of side {max(sides):g}; name the data: --data CFG"
        )
    made_up = prod(max(1, number) for number in _numbers(list(data.options.values())))
    if data.name.casefold() in {"fake", "fakedata"} and made_up > MOST_MADE_UP:
        raise FileRefused(
            file.path, f"its data section asks for {made_up:.2g} numbers made up; name the data: --data CFG"
        )


def _numbers(value: Any) -> list[float]:
    """All numbers in nested lists and mappings."""
    if isinstance(value, Mapping | list | tuple):
        parts = value.values() if isinstance(value, Mapping) else value
        return [number for part in parts for number in _numbers(part)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []
