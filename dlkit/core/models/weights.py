"""Weights put into a network, with a plain account of what was taken and of what does not fit."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dlkit.core.components import ComponentError
from dlkit.core.models.arch import Arch
from dlkit.core.models.timm import adapt_timm_weights, fetch_timm_weights, fitted_names
from dlkit.core.models.torchvision import find_first_conv, fit_channels, is_published_name, pretrained_state_dict
from dlkit.core.models.weight_files import StateDict, read_weights
from dlkit.core.models.weight_names import COUNTERS, Reading, common_prefix, plain_reading, readings
from dlkit.errors import FileRefused
from dlkit.shapes import size_text

_AUX_HEADS = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")
_MOST_ROWS = 8

Row = tuple[str, str, str]  # tensor, in the model, in the file; an empty text where it is not there


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded. `head` are the tensors left at their initialization because the number of classes differs.

    `ignored` are tensors of auxiliary heads, `left` others of the file that are not of this network; `notes` say how names
    were changed.
    """

    num_loaded: int
    head: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Everything that is not plain, as one text; empty where all is."""
        parts = list(self.notes)
        if self.head:
            parts.append(f"new head, for another number of classes: {', '.join(self.head)}")
        if self.fitted:
            parts.append(f"fitted to the input channels: {', '.join(self.fitted)}")
        if self.ignored:
            parts.append(f"not used: {len(self.ignored)} tensors of auxiliary heads")
        if self.left:
            parts.append(f"not used: {_few(self.left)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Match:
    """A reading of a state dict against a network: the tensors to load, and the mistakes that forbid it."""

    reading: Reading
    state: StateDict
    mistakes: tuple[Row, ...]
    head: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def load_weights(
    model: nn.Module, state: Mapping[str, Tensor], *, source: str | Path = "weights", strict_head: bool = False
) -> WeightsReport:
    """Load a state dict into the model, in place.

    Names are taken as they stand, else without what trainers put in front of them (`match_weights`). A head for another number of
    classes is left at its initialization and reported, unless `strict_head`. A first convolution for another number of
    channels is fitted (`fit_channels`). A tied weight may stand under one of its names. torchvision's auxiliary heads and
    missing batch counters are passed over. Raises FileRefused with a table of what is missing, unexpected or of another
    shape; the model is unchanged then.
    """
    match = match_weights(model, state, source=source, strict_head=strict_head)
    if match.mistakes:
        raise FileRefused(source, _mistake_text(model, state, match))
    taken: OrderedDict[str, Tensor] = OrderedDict(
        (name, value) for name, value in match.state.items() if name not in match.head
    )
    # modules convert old layouts by these versions; a safetensors file has none, and its names were made current before
    taken._metadata = getattr(match.reading.state, "_metadata", None) or model.state_dict()._metadata  # type: ignore[attr-defined]
    model.load_state_dict(taken, strict=False)
    reading = match.reading
    return WeightsReport(
        len(match.state) - len(match.head), match.head, match.fitted, match.ignored, reading.left, reading.notes
    )


def match_weights(
    model: nn.Module, state: Mapping[str, Tensor], *, source: str | Path = "weights", strict_head: bool = False
) -> Match:
    """The first reading of the names that fits the model with every tensor of the file; else the one that fits with a part of
    them; else the one with the fewest mistakes. The model may lie on the meta device.

    Raises FileRefused where several parts of the file fit.
    """
    own = model.state_dict()
    tied = _tied_names(model)
    closest: Match | None = None
    parts: dict[str, Match] = {}
    for reading in readings(state, own):
        match = _judge(model, own, tied, reading, strict_head=strict_head)
        if not match.mistakes and not reading.left:
            return match
        if not match.mistakes:
            parts.setdefault(reading.prefix, match)
        elif closest is None or len(match.mistakes) + len(reading.left) < len(closest.mistakes) + len(
            closest.reading.left
        ):
            closest = match
    if len(parts) > 1:
        raise FileRefused(source, _ambiguous_text(model, source, list(parts)))
    found = next(iter(parts.values()), closest)
    assert found is not None
    return found


def _judge(
    model: nn.Module, own: Mapping[str, Tensor], tied: Mapping[str, str], reading: Reading, *, strict_head: bool
) -> Match:
    ignored = tuple(name for name in reading.state if name.startswith(_AUX_HEADS) and name not in own)
    given = {name: value for name, value in reading.state.items() if name not in ignored}
    fitted = _fit_first(model, given)
    is_minor = len(reading.left) > len(reading.state)  # a few tensors of a large file must fit as they are
    head = () if strict_head or is_minor else _head_mismatches(model, given)
    mistakes = _compare(own, {name: value for name, value in given.items() if name not in head}, head, tied)
    return Match(reading, given, tuple(mistakes), head, fitted, ignored)


def _tied_names(model: nn.Module) -> dict[str, str]:
    """Every name of a tensor that has several, with its first one."""
    firsts: dict[tuple[object, ...], str] = {}
    return {
        name: first
        for name, tensor in model.state_dict(keep_vars=True).items()
        if (first := firsts.setdefault(_place(tensor), name)) != name
    }


def _place(tensor: Tensor) -> tuple[object, ...]:
    if tensor.is_meta or not tensor.numel():
        return (id(tensor),)
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _fit_first(model: nn.Module, given: StateDict) -> tuple[str, ...]:
    found = find_first_conv(model)
    if found is None:
        return ()
    key = f"{found[0]}.weight".lstrip(".")
    want, have = found[1].weight, given.get(key)
    is_other_input = have is not None and have.dim() == 4 and have.shape[1] != want.shape[1]
    if (
        have is None
        or not is_other_input
        or (have.shape[0], *have.shape[2:]) != (want.shape[0], *want.shape[2:])
        or found[1].groups != 1
    ):
        return ()
    given[key] = fit_channels(have, want.shape[1])
    return (key,)


def _head_mismatches(model: nn.Module, given: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Returns tensors of heads that are there with another number of outputs only."""
    return tuple(name for head in find_heads(model) for name in _head_mismatch(*head, given))


def _head_mismatch(name: str, module: nn.Module, given: Mapping[str, Tensor]) -> tuple[str, ...]:
    own = {f"{name}.{key}".lstrip("."): parameter for key, parameter in module.named_parameters()}
    same_but_first = all(key in given and given[key].shape[1:] == parameter.shape[1:] for key, parameter in own.items())
    differs = any(key in given and given[key].shape[:1] != parameter.shape[:1] for key, parameter in own.items())
    return tuple(own) if same_but_first and differs else ()


def find_head(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Name and module of the layer whose outputs are the classes; the first where there are several."""
    return next(iter(find_heads(model)), None)


def find_heads(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules of all layers whose outputs are classes: what the network says, else the last linear layer or convolution."""
    if names := getattr(model, "head_names", None):
        return [(name, model.get_submodule(name)) for name in names]
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    return list(layers[-1:])


def _compare(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], head: tuple[str, ...], tied: Mapping[str, str]
) -> list[Row]:
    """Returns a row for each tensor that is missing, unexpected, of another shape, or tied to one with other values."""
    there = {tied.get(name, name) for name in given}
    rows = []
    for name, want in own.items():
        have = given.get(name)
        if have is None:
            if name not in head and tied.get(name, name) not in there and not name.endswith(COUNTERS):
                rows.append((name, _size(want), ""))
        elif have.shape != want.shape:
            rows.append((name, _size(want), _size(have)))
        elif (first := tied.get(name, name)) in given and not torch.equal(have, given[first]):
            rows.append((name, f"is {first}", "other values"))
    return rows + [(name, "", _size(have)) for name, have in given.items() if name not in own]


def _size(tensor: Tensor) -> str:
    return size_text(tensor.shape) if tensor.ndim else "a number"


def _mistake_text(model: nn.Module, state: Mapping[str, Tensor], match: Match) -> str:
    lines = [f"does not fit {type(model).__name__}: {len(match.mistakes)} tensors differ", *_table(match.mistakes)]
    if match.reading.notes:
        lines.append(f"This is with {'; '.join(match.reading.notes)}.")
    if match.reading.left:
        lines.append(f"Not compared: {_few(match.reading.left)}.")
    own_prefix, prefix = common_prefix(model.state_dict()), common_prefix(match.reading.state)
    if own_prefix != prefix:
        sides = [_side("file", prefix, state), _side("model", own_prefix, model.state_dict())]
        lines.append(f"Names {sides[0]}, {sides[1]}.")
    return "\n".join(lines)


def _side(where: str, prefix: str, names: Iterable[str]) -> str:
    shown = ", ".join(list(names)[:2])
    return f"in the {where} {f'all begin with {prefix!r}' if prefix else 'share no prefix'} ({shown}, ...)"


def _table(rows: tuple[Row, ...]) -> list[str]:
    """The first rows, of both sides where both have some: names that only the model has, and names that only the file has."""
    only_file = [row for row in rows if not row[1]]
    others = [row for row in rows if row[1]]
    num_file = min(len(only_file), max(_MOST_ROWS // 2, _MOST_ROWS - len(others)))
    shown = others[: _MOST_ROWS - num_file] + only_file[:num_file]
    width = max(len(name) for name, _, _ in shown)
    lines = [f"  {'tensor':{width}}  {'model':>12}  {'file':>12}"]
    lines += [f"  {name:{width}}  {want or 'missing':>12}  {have or 'missing':>12}" for name, want, have in shown]
    return lines + ([f"  ... and {len(rows) - len(shown)} more"] if len(rows) > len(shown) else [])


def _few(names: tuple[str, ...], *, most: int = 3) -> str:
    return f"{len(names)} tensors ({', '.join(names[:most])}{', ...' if len(names) > most else ''})"


def _ambiguous_text(model: nn.Module, source: str | Path, prefixes: list[str]) -> str:
    return (
        f"holds {type(model).__name__} {len(prefixes)} times, under {' and '.join(map(repr, prefixes))}; write the one that "
        f"you mean to a file of its own: dlkit convert {source} NEW.pth --prefix {prefixes[0]}"
    )


def load_initial_weights(model: nn.Module, arch: Arch, weights: str) -> WeightsReport:
    """Load what a config's `model.weights` names: a file, or for a model of torchvision or timm `DEFAULT` or the name of
    published weights. For a network for segmentation a file may have its backbone alone, as part of a classifier.
    """
    is_published = is_published_name(weights)
    if arch.registry == "torchvision" and is_published:
        return load_weights(model, pretrained_state_dict(arch.name, weights), source=weights)
    if arch.registry == "timm" and is_published:
        return _load_fitted(model, arch, fetch_timm_weights(arch.name, arch.options, weights))
    found = read_weights(weights)
    try:
        report = load_weights(model, found.state, source=weights)
    except FileRefused:
        load = _load_backbone if hasattr(model, "head_names") else _load_by_timm if arch.registry == "timm" else None
        if load is None:
            raise
        report = load(model, arch, found.state)
    return replace(report, notes=(found.words, *report.notes)) if found.words and found.others else report


def _load_backbone(model: nn.Module, arch: Arch, state: StateDict) -> WeightsReport:
    """Load a classifier's weights into the backbone that is a part of it.

    Raises the FileRefused that is being handled where they do not have all of it.
    """
    backbone = model.get_submodule("backbone")
    given = {name.removeprefix("features."): value for name, value in plain_reading(state).state.items()}
    own = {name: given[name] for name in backbone.state_dict() if name in given}
    if any(name not in own and not name.endswith(COUNTERS) for name in backbone.state_dict()):
        raise
    report = load_weights(backbone, own, source=arch.name)
    fitted = tuple(f"backbone.{name}" for name in report.fitted)
    return replace(report, fitted=fitted, notes=("weights of the backbone alone; the rest begins anew",))


def _load_by_timm(model: nn.Module, arch: Arch, state: StateDict) -> WeightsReport:
    """Load weights that only timm knows how to fit: for images of another size, or as an architecture's authors published them.

    Raises the FileRefused that is being handled where timm cannot fit them either.
    """
    try:
        fitted = adapt_timm_weights(arch.name, arch.options, state)
    except ComponentError:
        fitted = None
    if fitted is None:
        raise
    return _load_fitted(model, arch, fitted)


def _load_fitted(model: nn.Module, arch: Arch, state: StateDict) -> WeightsReport:
    head, fitted = fitted_names(arch.name, arch.options)
    taken = {name: value for name, value in state.items() if name not in head}
    model.load_state_dict({**model.state_dict(), **taken})
    return WeightsReport(len(taken), tuple(name for name in head if name in state), fitted)
