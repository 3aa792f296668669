"""timm's networks by name: `timm/convnext_atto.d2_in1k`, an architecture and the tag of its published weights.

Names resolve through timm's own registry alone, so that a model file can neither make anything be fetched nor run code: names of
hubs and of folders, which timm would look up, have a slash or a colon and are refused before timm sees them. timm is an extra.
"""

import inspect
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from dlkit.core.components import Builder, ComponentError, UnknownOption
from dlkit.errors import first_line
from dlkit.registry import Entry
from dlkit.suggestions import did_you_mean

PREFIX = "timm/"
_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)?")
# arguments that dlkit decides itself: sizes, and where and in which precision weights are made
_DECIDED = {"num_classes", "in_chans", "device", "dtype"}


def is_timm_name(name: str) -> bool:
    """Returns whether a model's name in a config or on the command line is one of timm's."""
    return name.startswith(PREFIX)


def import_timm() -> ModuleType:
    """Returns the package. Raises ComponentError where it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise ComponentError(
            f"timm cannot be imported ({first_line(error)}): pip install 'dlkit[timm]'", option="name"
        ) from None
    return timm


def find_timm(name: str) -> Builder:
    """Returns timm's function for an architecture with or without a tag, after `timm/`.

    Raises ComponentError, with the names that come close, for what timm does not have.
    """
    timm = import_timm()
    if _NAME.fullmatch(name) and timm.is_model(name.partition(".")[0]):
        builder: Builder = timm.model_entrypoint(name.partition(".")[0])
        return builder
    hint = did_you_mean(name, timm.list_pretrained() if "." in name else timm.list_models())
    raise ComponentError(f"timm has no model {name!r}.{hint} See `dlkit list models {PREFIX}`", option="name")


def check_timm_tag(name: str) -> None:
    """Raise ComponentError, with those that there are, for a tag that timm has no weights for.

    Files are not checked: networks do not depend on tags, and another timm may know others.
    """
    architecture, _, tag = name.partition(".")
    known = [found.partition(".")[2] for found in import_timm().list_pretrained(f"{architecture}.*")]
    if tag and tag not in known:
        have = f"It has {', '.join(known)}" if known else "It has none"
        raise ComponentError(
            f"timm's {architecture} has no tag {tag!r}.{did_you_mean(tag, known)} {have}", option="name"
        )


def timm_options(name: str) -> list[str]:
    """Returns options of an architecture that a config may set: those of the class behind its function that have a default."""
    parameters = inspect.signature(_class_of(name)).parameters.values()
    return [p.name for p in parameters if p.default is not p.empty and p.name not in _DECIDED]


def _class_of(name: str) -> Builder:
    found: Builder = inspect.signature(find_timm(name)).return_annotation
    return found


def check_timm_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ComponentError for an option that the architecture's class does not take, or that dlkit decides itself."""
    known = timm_options(name)
    for option in options:
        if option not in (*known, "num_classes", "in_channels"):
            hint = did_you_mean(option, [*known, "num_classes", "in_channels", "weights"])
            raise UnknownOption(
                f"unknown key for {name}.{hint} It takes: {', '.join(known) or 'nothing'}", option=option
            )


def plan_timm_size(name: str, input_size: tuple[int, ...]) -> dict[str, Any]:
    """Returns options that bind a model to the size of its images, from a sample's (C, H, W); nothing for most models."""
    config = pretrained_config(name)
    is_bound = config.get("fixed_input_size") and "img_size" in timm_options(name)
    height, width = input_size[1:]
    return {"img_size": height if height == width else [height, width]} if is_bound else {}


def pretrained_config(name: str) -> dict[str, Any]:
    """Returns what timm knows of an architecture's published weights, those of its first tag where none is named; {} for none."""
    config = import_timm().get_pretrained_cfg(_known_name(name))
    return config.to_dict() if config is not None else {}


def _known_name(name: str) -> str:
    """The name with its tag where the installed timm knows that, else without."""
    find_timm(name)
    return name if import_timm().is_model_pretrained(name) else name.partition(".")[0]


def build_timm(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Returns the network, randomly initialized. `options` are its class's own, plus `in_channels`.

    Raises ComponentError for values that the class refuses.
    """
    try:
        return _create(name, options)
    except Exception as error:  # whatever a builder of timm's raises for values that it does not expect
        raise ComponentError(f"{PREFIX}{name} cannot be built with {dict(options)}: {first_line(error)}") from error


def _pretrained_state(name: str, options: Mapping[str, Any], **source: Any) -> dict[str, Tensor]:
    """The network's state with weights, and with their classes: for any other number timm would pass over names that do not fit."""
    classes = {"num_classes": pretrained_config(name).get("num_classes", 1000)}
    return _create(name, {**options, **classes}, pretrained=True, **source).state_dict()


def _create(name: str, options: Mapping[str, Any], **weights: Any) -> nn.Module:
    keywords = {"in_chans": options.get("in_channels", 3), **options}
    keywords.pop("in_channels", None)
    if isinstance(keywords.get("img_size"), list):
        keywords["img_size"] = tuple(keywords["img_size"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that timm is to change, and of torch functions that it still uses
        network: nn.Module = import_timm().create_model(_known_name(name), **keywords, **weights)
    return network


def fetch_timm_weights(name: str, options: Mapping[str, Any], weights: str) -> dict[str, Tensor]:
    """Returns the state of the network with the published weights of its tag, fetched if need be and fitted by timm: to the input
    channels, the size of the images and the names of today. The head is theirs.

    Raises ComponentError where there are none, or no way to them.
    """
    architecture, config = name.partition(".")[0], pretrained_config(name)
    if weights != "DEFAULT":
        raise ComponentError(
            f"no weights {weights!r}: timm names them by a tag behind the model, {PREFIX}{architecture}.TAG with weights: DEFAULT",
            option="weights",
        )
    place = config.get("hf_hub_id") or config.get("url")
    if not place:
        raise ComponentError(f"timm has no weights for {name}; those of a file need its path", option="weights")
    try:
        with _quiet_hub():
            return _pretrained_state(name, options)
    except Exception as error:  # of the network, the hub's library, the disk, or weights that options do not fit
        why = first_line(error).split(". ")[0].rstrip(".:")
        raise ComponentError(
            f"the weights {weights!r} of {PREFIX}{name} cannot be had ({why}): check the network and the options, or fetch "
            f"{place} elsewhere and give the file's path",
            option="weights",
        ) from None


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keep the hub's library from telling of every try to reach it."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub.utils._http", "timm.models._builder")]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        yield
    finally:
        for logger, was_disabled in zip(loggers, before, strict=True):
            logger.disabled = was_disabled


def adapt_timm_weights(name: str, options: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As `fetch_timm_weights`, of weights that are here. Raises ComponentError where timm cannot fit them."""
    try:
        return _pretrained_state(name, options, pretrained_cfg_overlay={"state_dict": dict(state)})
    except Exception as error:
        raise ComponentError(f"timm cannot fit them to {name}: {first_line(error)}") from None


def fitted_names(name: str, options: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the tensors of published weights that timm makes anew for another number of classes, and those that it fits to other
    input channels; none where the numbers are those of the weights.
    """
    config = pretrained_config(name)
    has_other = {
        "classifier": options.get("num_classes") != config.get("num_classes"),
        "first_conv": options.get("in_channels", 3) != config.get("input_size", (3,))[0],
    }
    found = []
    for key, differs in has_other.items():
        modules = config.get(key) if differs else None
        found.append((modules,) if isinstance(modules, str) else tuple(modules or ()))
    return tuple(f"{module}.{kind}" for module in found[0] for kind in ("weight", "bias")), tuple(
        f"{module}.weight" for module in found[1]
    )


def timm_entries(text: str = "") -> list[Entry]:
    """Returns timm's architectures whose name, or the name of one of their tags, contains a text; the tags are in the summary."""
    timm, wanted = import_timm(), text.removeprefix(PREFIX.rstrip("/")).removeprefix("/").casefold()
    found: dict[str, list[str]] = {name: [] for name in timm.list_models()}
    for name in timm.list_pretrained():
        found[name.partition(".")[0]].append(name)
    return [_entry(name, tags) for name, tags in found.items() if any(wanted in known for known in (name, *tags))]


def _entry(name: str, tagged: list[str]) -> Entry:
    tags = ", ".join(name.partition(".")[2] for name in tagged)
    target = f"{find_timm(name).__module__}:{name}"
    # no options: defaults of the class are not those of the architecture
    return Entry("models", PREFIX + name, target, f"weights: {tags}" if tags else "no weights", (), None)
