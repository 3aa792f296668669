"""The teacher of distillation: a network in evaluation mode, without gradients, that is shown what the student is shown.

Inputs that it was trained on with other statistics or at another size are converted, classes and targets are found by name.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dlkit.config import Distill
from dlkit.core.data import DataInfo, ImageFit, fit_image
from dlkit.core.modelfile import ModelFile, build_from_file, read_model_file
from dlkit.core.rewrites import is_quantized
from dlkit.errors import UsageError

Scale = tuple[Tensor, Tensor]  # a factor and an offset


@dataclass(frozen=True)
class Teacher:
    """A network that answers in the outputs of another one.

    `inputs` and `outputs` turn what the student is given, and what the teacher says, into the other's units; `columns` are the
    teacher's outputs that the student has, in its order; None where nothing changes. `size` is the height and width that images are
    brought to, `fit` how; what the student does not see of a picture is never shown. `digest` is the SHA-256 of the file that it was
    read from.
    """

    network: nn.Module
    size: tuple[int, int] | None = None
    fit: ImageFit | None = None
    inputs: Scale | None = None
    columns: Tensor | None = None
    outputs: Scale | None = None
    digest: str | None = None

    @torch.no_grad()
    def answer(self, inputs: Tensor) -> Tensor:
        """Returns outputs (N, num_outputs of the student) for a batch as the student takes it."""
        if self.inputs is not None:
            inputs = inputs * self.inputs[0] + self.inputs[1]
        if self.size is not None:
            inputs = fit_image(inputs, self.size, self.fit)
        outputs: Tensor = self.network(inputs)
        if self.columns is not None:
            outputs = outputs.index_select(1, self.columns)
        return outputs if self.outputs is None else outputs * self.outputs[0] + self.outputs[1]


def open_teacher(section: Distill, info: DataInfo, device: torch.device) -> Teacher:
    """Returns the teacher in a model file, for a student of data like `info`.

    Raises FileRefused for a file that is no model file, and UsageError for a teacher of another task, of other inputs, or one that does
    not know all classes.
    """
    path = Path(section.teacher)
    file = read_model_file(path)
    if is_quantized(file.spec.transforms):
        raise UsageError(f"{path} is an int8 network; the float network that it was made from teaches better")
    arch = file.spec.arch
    if arch.registry == "user" and section.model is None:
        raise UsageError(
            f"{path} was made with the class {arch.name}, which is not part of dlkit; name it again, beside teacher: model: {arch.name}"
        )
    _check_kind(file, info)
    columns = _matched_outputs(file, info)
    network = build_from_file(file, model=section.model)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    known = file.spec.info
    size = (known.input_size[1], known.input_size[2]) if info.kind == "image" else None
    return as_teacher(
        network,
        device,
        size=size,
        fit=replace(known.fit, resize_size=size) if known.fit and size else None,
        inputs=_input_scale(info, known, device),
        columns=None if columns == list(range(known.num_outputs)) else torch.tensor(columns, device=device),
        outputs=_output_scale(info, known, columns, device),
        digest=digest,
    )


def as_teacher(network: nn.Module, device: torch.device, **changes: object) -> Teacher:
    """Returns a network, which is changed in place, as a teacher: in evaluation mode, without gradients."""
    return Teacher(network.to(device).eval().requires_grad_(False), **changes)  # type: ignore[arg-type]


def _check_kind(file: ModelFile, info: DataInfo) -> None:
    known = file.spec.info
    if known.task != info.task:
        raise UsageError(f"{file.path} was trained for {known.task}, this run is {info.task}")
    if known.kind != info.kind:
        raise UsageError(f"{file.path} takes {known.kind} input, these data are {info.kind}")
    place, what = (0, "channels") if info.kind == "image" else (-1, "features")
    if known.input_size[place] != info.input_size[place]:
        raise UsageError(
            f"{file.path} takes {known.input_size[place]} {what}, these data have {info.input_size[place]}"
        )
    if known.columns is not None and info.columns is not None and known.columns != info.columns:
        raise UsageError(f"{file.path} was trained on other columns of a table, or on columns in another order")


def _matched_outputs(file: ModelFile, info: DataInfo) -> list[int]:
    """Where each of the student's outputs stands among the teacher's: by name, or where names are not known by place."""
    known = file.spec.info
    theirs, ours = (one.targets if info.task == "regression" else one.classes for one in (known, info))
    if theirs is None or ours is None or theirs == ours:
        if known.num_outputs != info.num_outputs:
            raise UsageError(f"{file.path} has {known.num_outputs} outputs, this run has {info.num_outputs}")
        return list(range(info.num_outputs))
    what = "target" if info.task == "regression" else "class"
    if missing := [name for name in ours if name not in theirs]:
        raise UsageError(f"{file.path} does not know {what} {missing[0]!r}; it knows {', '.join(theirs):.200}")
    if info.num_outputs != len(ours):
        raise UsageError(f"{info.num_outputs} outputs for {len(ours)} classes: those without a name have no teacher")
    return [theirs.index(name) for name in ours]


def _input_scale(info: DataInfo, known: DataInfo, device: torch.device) -> Scale | None:
    """What makes inputs that were normalized for the student those that the teacher was trained on."""
    if (info.mean, info.std) == (known.mean, known.std):
        return None
    count = info.input_size[0 if info.kind == "image" else -1]
    (mean, std), (their_mean, their_std) = (_statistics(one.mean, one.std, count) for one in (info, known))
    scale = std / their_std, (mean - their_mean) / their_std
    return _as_scale(*scale, device, shape=(-1, 1, 1) if info.kind == "image" else (-1,))


def _output_scale(info: DataInfo, known: DataInfo, columns: list[int], device: torch.device) -> Scale | None:
    """What makes the teacher's outputs of a regression those of the student, who may standardize targets otherwise."""
    mean, std = _statistics(info.target_mean, info.target_std, info.num_outputs)
    their_mean, their_std = (
        values[columns] for values in _statistics(known.target_mean, known.target_std, known.num_outputs)
    )
    if torch.equal(mean, their_mean) and torch.equal(std, their_std):
        return None
    return _as_scale(their_std / std, (their_mean - mean) / std, device, shape=(-1,))


def _statistics(mean: tuple[float, ...] | None, std: tuple[float, ...] | None, count: int) -> tuple[Tensor, Tensor]:
    means, stds = mean or (0.0,) * count, std or (1.0,) * count
    return torch.tensor(means, dtype=torch.float64), torch.tensor(stds, dtype=torch.float64)


def _as_scale(factor: Tensor, offset: Tensor, device: torch.device, *, shape: tuple[int, ...]) -> Scale:
    pair = torch.stack([factor, offset]).float().view(2, *shape).to(device)
    return pair[0], pair[1]
