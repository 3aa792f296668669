"""From `data.name` and its options to a source."""

from typing import Any

from dlkit.config import Data as DataSection
from dlkit.config import LoadedConfig
from dlkit.core.components import Builder, ComponentError, check_options, is_import_path, resolve
from dlkit.core.data.contract import Task
from dlkit.core.data.samples import Source, SourceRequest
from dlkit.core.data.sources import open_custom, open_torchvision
from dlkit.registry import INJECTED

REGRESSION_LOSSES = frozenset({"mse", "mseloss", "l1loss", "smoothl1loss", "huberloss", "poissonnllloss"})
CLASSIFICATION_LOSSES = frozenset({"cross_entropy", "crossentropyloss", "nllloss", "multimarginloss"})


def open_source(loaded: LoadedConfig, *, seed: int, task: Task | None = None) -> Source:
    """The source that the config names. Raises ConfigError at the key at fault, DataError where the data are."""
    section = loaded.config.data
    request = SourceRequest(
        root=None if section.root == "auto" else section.root,
        download=section.download,
        seed=seed,
        task=task or hinted_task(loaded),
    )
    try:
        builder = resolve("datasets", section.name)
        check_options(builder, section.options, injected=INJECTED["datasets"], also_known=DataSection.model_fields)
        return _open(builder, section, request)
    except ComponentError as error:
        place = ("data", error.option or "name")
        is_value = error.option is None or "unknown key" not in str(error)
        raise loaded.error(place, str(error), at="value" if is_value else "key") from None


def _open(builder: Builder, section: DataSection, request: SourceRequest) -> Source:
    if is_import_path(section.name):
        return open_custom(builder, section.options, request)
    if builder.__module__.startswith("torchvision."):
        return open_torchvision(builder, section.options, request)
    options: dict[str, Any] = section.options
    try:
        source: Source = builder(**options, request=request)
    except TypeError as error:
        raise ComponentError(f"{section.name}: {error}") from error
    return source


def hinted_task(loaded: LoadedConfig) -> Task | None:
    """The task that the config states or whose kind of loss it names; None where neither tells."""
    config = loaded.config
    if config.task != "auto":
        return config.task
    loss = config.loss.name.casefold()
    if loss in REGRESSION_LOSSES:
        return "regression"
    return "classification" if loss in CLASSIFICATION_LOSSES else None
