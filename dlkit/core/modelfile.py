"""The model file: a self-describing `torch.save` dict that anyone can load with `weights_only=True`.

    {"format": "dlkit.model", "version": 1, "spec": {...}, "state_dict": {...}}

Weights that are mostly zeros stand packed under a further key, `sparse` (sparse_storage.py), in a file of version 2.

`spec` tells how to build the network (registry name and options), how to prepare its input, and where it comes from. A
name in a file resolves only through dlkit's own registries: loading a file never imports anybody's code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.components import ComponentError
from dlkit.core.data import DataInfo
from dlkit.core.devices import pick_device
from dlkit.core.file_forms import ModelForm, check_form
from dlkit.core.models import AUX_HEAD, AUX_WEIGHT, Arch, build_model, build_on_meta, resolve_arch
from dlkit.core.plain_values import stored_bytes, total_bytes
from dlkit.core.release_memory import release_memory
from dlkit.core.rewrites import is_quantized, load_rewritten
from dlkit.core.sparse_storage import pack_tensors
from dlkit.core.torchfile import plain_mapping, read_torch_file, refused, save_torch_file
from dlkit.errors import DataError, FileRefused, UsageError
from dlkit.events import Emit, Note, ignore

FORMAT = "dlkit.model"
VERSION = 1
SPARSE_VERSION = 2  # with weights that are mostly zeros packed, which a dlkit of before does not read
FEW_OUTPUTS = 10_000
# a network is built whole before it is cut to what a file holds: beyond that many bytes only in proportion to the file
ALWAYS_BUILT, MOST_SHRINKING = 600 * 2**20, 16


@dataclass(frozen=True)
class ModelSpec:
    """What a model file says of itself; plain values only.

    `transforms` are the rewrites to replay after building (pruning, quantization); `data` is the data section that it was trained on;
    `config` the whole resolved config; `provenance` versions, time and metrics.
    """

    arch: Arch
    info: DataInfo
    transforms: tuple[Mapping[str, Any], ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored."""
        return {
            "arch": self.arch.to_dict(),
            "transforms": [dict(transform) for transform in self.transforms],
            "input": self.info.to_dict(),
            "data": dict(self.data),
            "config": dict(self.config),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, value: Any) -> "ModelSpec":
        """Read what `to_dict` made. Raises ValueError or KeyError for anything else."""
        if not isinstance(value, dict):
            raise ValueError("spec is not a mapping")
        return cls(
            arch=Arch.from_dict(value["arch"]),
            info=DataInfo.from_dict(value["input"]),
            transforms=tuple(value["transforms"]),
            data=dict(value["data"]),
            config=dict(value["config"]),
            provenance=dict(value["provenance"]),
        )


@dataclass(frozen=True)
class ModelFile:
    """A model file that was read: its path, what it says of itself, and its tensors."""

    path: Path
    spec: ModelSpec
    state_dict: Mapping[str, Tensor]


def save_model_file(path: Path, spec: ModelSpec, state_dict: Mapping[str, Tensor]) -> None:
    """Write a model file in one step. Tensors are stored on the CPU, contiguous, under their plain names, and packed where most
    of their numbers are zeros.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    dense, sparse = pack_tensors(tensors)
    value = {"format": FORMAT, "version": VERSION, "spec": spec.to_dict(), "state_dict": dense}
    save_torch_file(path, value if sparse is None else {**value, "version": SPARSE_VERSION, "sparse": sparse})


def read_model_file(path: str | Path) -> ModelFile:
    """Read and check a model file. Raises FileRefused when it is none."""
    path = Path(path)
    return parse_model_file(path, read_torch_file(path))


def is_model_file(value: Any) -> bool:
    """Whether what was read from a file says that it is a dlkit model file."""
    return isinstance(value, dict) and value.get("format") == FORMAT


def is_dlkit_file(value: Any) -> bool:
    """Whether what was read from a file is dlkit's own, a model file or a checkpoint, of any version."""
    return isinstance(value, dict) and isinstance(value.get("format"), str)


def parse_model_file(path: Path, value: Any) -> ModelFile:
    """Check what was read from a file at `path`. Raises FileRefused when it is no model file."""
    value = plain_mapping(path, value, wanted="a dlkit model file")
    if value.get("format") != FORMAT:
        raise FileRefused(path, _other_format(value))
    if value.get("version") not in (VERSION, SPARSE_VERSION):
        raise FileRefused(
            path, f"model file version {value.get('version')!r}; this dlkit reads {VERSION} and {SPARSE_VERSION}"
        )
    check_form(path, value, ModelForm)
    return ModelFile(path, read_spec(path, value["spec"], value["state_dict"]), value["state_dict"])


def read_spec(path: Path, value: Any, weights: Mapping[str, Tensor]) -> ModelSpec:
    """What a model file or a checkpoint says of its network, which has these weights. Raises FileRefused."""
    try:
        spec = ModelSpec.from_dict(value)
    except (KeyError, ValueError, TypeError, DataError) as error:
        raise FileRefused(path, f"its description cannot be read: {error}") from None
    num_weights = sum(tensor.numel() for tensor in weights.values())
    if spec.info.num_outputs > max(
        num_weights, FEW_OUTPUTS
    ):  # a list of them would be out of all proportion to the file
        raise FileRefused(path, f"describes {spec.info.num_outputs:,} outputs, but holds {num_weights:,} numbers only")
    return spec


def _other_format(value: Mapping[str, Any]) -> str:
    if value.get("format") == "dlkit.train":
        return "a training checkpoint; use the run's model.pt, or `dlkit train --resume`"
    return (
        "weights without a description of the network; dlkit needs a model file, as `dlkit train` writes it and as "
        "`dlkit convert` makes it of weights"
    )


def load_model(
    path: str | Path, *, model: str | Callable[..., nn.Module] | None = None, device: str | torch.device = "cpu"
) -> nn.Module:
    """The network of a model file, in evaluation mode, its description in the attribute `dlkit_spec`.

    Inputs are float tensors of shape (N, *spec.info.input_size), scaled to 0..1 and normalized with the spec's mean and std.
    Outputs of a regression are as it was trained: `outputs * target_std + target_mean` where the spec has these.
    A network of the user's own class is only loaded when `model` names that class again (`pkg.mod:Net`, or the class itself).
    Raises FileRefused when the file is corrupt, is no model file, or does not fit the network, and UsageError when an int8
    network is asked for on another device than the CPU.
    """
    file, device = read_model_file(path), torch.device(device)
    if device.type != "cpu" and is_quantized(file.spec.transforms):
        raise UsageError(f"{path} is an int8 network, which runs on the CPU only")
    return build_from_file(file, model=model).to(device)


def pick_model_device(file: ModelFile, name: str, emit: Emit = ignore) -> torch.device:
    """The device of that name; but the CPU for an int8 network, whose kernels exist nowhere else."""
    if not is_quantized(file.spec.transforms):
        return pick_device(name)
    if name not in ("auto", "cpu"):
        emit(Note(f"int8 networks run on the CPU only; {name} is not used"))
    return torch.device("cpu")


def build_from_file(file: ModelFile, *, model: str | Callable[..., nn.Module] | None = None) -> nn.Module:
    """Build, replay and load what `read_model_file` read, in evaluation mode."""
    network = _build(file, model)
    if file.spec.transforms:
        network = _replay(file, network)
        release_memory(file.state_dict.values())  # those before its rewrites
    else:
        _compare_shapes(file, network)
        with refused(file.path):
            network.load_state_dict(dict(file.state_dict), strict=True)
    network.dlkit_spec = file.spec  # type: ignore[assignment]
    return network.eval()


def without_auxiliary_head(file: ModelFile, emit: Emit = ignore) -> ModelFile:
    """Returns what a file holds without an auxiliary head, which only training uses and no graph of the network in use has."""
    arch = file.spec.arch
    if arch.registry != "torchvision" or not arch.options.get(AUX_WEIGHT):
        return file
    emit(Note(f"left out: the auxiliary head of {arch.name}, which only helps to train"))
    options = {name: value for name, value in arch.options.items() if name != AUX_WEIGHT}
    weights = {name: tensor for name, tensor in file.state_dict.items() if not name.startswith(AUX_HEAD)}
    return replace(file, spec=replace(file.spec, arch=replace(arch, options=options)), state_dict=weights)


def build_unchanged(file: ModelFile, *, model: str | Callable[..., nn.Module] | None = None) -> nn.Module:
    """The network of a file before any of its rewrites, with new weights: good for what it costs, not for what it answers."""
    return _build(file, model).eval()


def _build(file: ModelFile, model: str | Callable[..., nn.Module] | None) -> nn.Module:
    arch = file.spec.arch
    if arch.registry == "user":
        if model is None:
            raise FileRefused(
                file.path,
                f"made with the class {arch.name}, which is not part of dlkit; name it again: --model {arch.name}",
            )
        return build_model(resolve_arch(arch, model), input_size=file.spec.info.input_size)
    try:
        arch = resolve_arch(arch)
        planned = build_on_meta(
            arch, input_size=file.spec.info.input_size
        )  # before memory is taken for whatever sizes the file asks for
        if not file.spec.transforms:
            _compare_shapes(file, planned)
        elif total_bytes(planned.state_dict().values()) > ALWAYS_BUILT + MOST_SHRINKING * stored_bytes(
            file.state_dict.values()
        ):
            raise FileRefused(file.path, "its network is far larger than the weights stored for it")
        return build_model(arch, input_size=file.spec.info.input_size)
    except ComponentError as error:
        raise FileRefused(file.path, f"its network {arch.name!r} cannot be built: {error}") from error


def _replay(file: ModelFile, network: nn.Module) -> nn.Module:
    with refused(file.path, "its changed network cannot be rebuilt: "):
        return load_rewritten(network, file.spec.transforms, file.state_dict)


def _compare_shapes(file: ModelFile, network: nn.Module) -> None:
    """Raise FileRefused, with the first differences, when the file's tensors are not exactly those of the network."""
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in file.state_dict.items()}
    if own == given:
        return
    lines = [f"missing: {name}" for name in own if name not in given]
    lines += [f"unexpected: {name}" for name in given if name not in own]
    lines += [
        f"{name}: {given[name]} in the file, {own[name]} in the network"
        for name in own
        if name in given and given[name] != own[name]
    ]
    shown = "\n  ".join(lines[:8] + ([f"and {len(lines) - 8} more"] if len(lines) > 8 else []))
    raise FileRefused(file.path, f"its weights do not fit its network:\n  {shown}")
