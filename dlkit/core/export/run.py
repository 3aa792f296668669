"""`export_model`, the whole of `dlkit export`: what each format takes, how it is written, and how its file is loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from dlkit.choices import ExportFormat
from dlkit.core.export.aoti import export_aoti, require_compiler
from dlkit.core.export.free_size import FreeSize, find_free_size
from dlkit.core.export.loading_code import (
    load_compiled,
    load_onnx,
    load_pt2,
    load_safetensors,
    load_sparse,
    load_state_dict,
    load_timm,
)
from dlkit.core.export.normalizing import raw_spec
from dlkit.core.export.onnx import AS_IT_IS, ExportOptions, export_onnx, require_onnx
from dlkit.core.export.opset import check_opset
from dlkit.core.export.parity import Parity
from dlkit.core.export.pt2 import write_pt2
from dlkit.core.export.resizing import check_resizable
from dlkit.core.export.restored import standardized_note, with_restored_outputs
from dlkit.core.export.timm import check_timm_has, write_timm_folder
from dlkit.core.export.weights import write_safetensors, write_sparse, write_state_dict
from dlkit.core.modelfile import ModelFile, ModelSpec, build_from_file
from dlkit.core.rewrites import is_quantized
from dlkit.errors import UsageError
from dlkit.files import check_output
from dlkit.shapes import size_text
from dlkit.tasks import TRAITS


@dataclass(frozen=True)
class Exported:
    """A file, or a folder, that was written. `parity` is None for weights, which were read back and are equal.

    `loading` are lines of Python that load it; `notes` what its user must know.
    """

    path: Path
    format: str
    bytes: int
    parity: Parity | None
    loading: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Format:
    """How a format is written (giving its parity, where there is one), what loads it (for a program with a number of threads), whether
    int8 networks have it, and whether it is weights alone.
    """

    write: Callable[[nn.Module, ModelSpec, Path], Parity | None]
    loading: Callable[..., list[str]]
    check: Callable[[ModelSpec], None] = lambda spec: None
    ending: str | None = None
    takes_int8: bool = False
    is_folder: bool = False
    is_weights: bool = False


def _write_onnx(
    network: nn.Module,
    spec: ModelSpec,
    path: Path,
    *,
    options: ExportOptions = AS_IT_IS,
    free: FreeSize | None = None,
) -> Parity:
    return export_onnx(network, path, example_of(spec), spec=spec, options=options, free=free)


def _write_pt2(network: nn.Module, spec: ModelSpec, path: Path) -> Parity:
    return write_pt2(with_restored_outputs(network, spec), path, example_of(spec))


def _write_aoti(network: nn.Module, spec: ModelSpec, path: Path) -> Parity:
    return export_aoti(with_restored_outputs(network, spec), path, example_of(spec))


def _write_state_dict(network: nn.Module, spec: ModelSpec, path: Path) -> None:
    write_state_dict(network, path)


def _write_safetensors(network: nn.Module, spec: ModelSpec, path: Path) -> None:
    write_safetensors(network, path)


def _write_sparse(network: nn.Module, spec: ModelSpec, path: Path) -> None:
    write_sparse(network, path)


FORMATS: Mapping[ExportFormat, Format] = {
    "onnx": Format(_write_onnx, load_onnx, check=lambda spec: require_onnx(), takes_int8=True),
    "pt2": Format(_write_pt2, load_pt2),
    "aoti": Format(_write_aoti, load_compiled, check=lambda spec: require_compiler(), ending=".pt2", takes_int8=True),
    "state-dict": Format(_write_state_dict, load_state_dict, is_weights=True),
    "safetensors": Format(_write_safetensors, load_safetensors, is_weights=True),
    "sparse": Format(_write_sparse, load_sparse, is_weights=True),
    "timm": Format(write_timm_folder, load_timm, check=check_timm_has, is_folder=True, is_weights=True),
}


def export_model(
    file: ModelFile,
    format_name: ExportFormat,
    path: Path,
    *,
    model: str | None = None,
    options: ExportOptions = AS_IT_IS,
    force: bool = False,
) -> Exported:
    """Write the network of a model file in another format. `model` names the class of a user's own network again; all `options`
    but threads are for ONNX alone.

    Raises OutputError for a path that is taken, unless `force`, and UsageError for a network that the format cannot hold.
    """
    chosen = FORMATS[format_name]
    check_output(path, may_replace=force, may_be_folder=chosen.is_folder)
    _check_precision(file, format_name)
    if chosen.ending and path.suffix != chosen.ending:
        raise UsageError(f"{path}: torch loads packages that end with {chosen.ending} alone")
    chosen.check(file.spec)
    _check_options(file.spec, format_name, options)
    told = raw_spec(file.spec) if options.normalizes else file.spec
    network = build_from_file(file, model=model)
    write, loading = chosen.write, {} if chosen.is_weights else {"threads": options.threads}
    free = find_free_size(network, file.spec) if options.has_free_size else None
    if format_name == "onnx":
        write = partial(_write_onnx, options=options, free=free)
        loading |= {"takes_any_size": options.resizes or options.has_free_size}
    parity = write(network, file.spec, path)
    lines = tuple(chosen.loading(told, path, **loading))
    notes = [*_notes(file.spec, format_name), *([parity.cpu_note] if parity and parity.cpu_note else [])]
    notes += [free.words] if free else []
    if options.resizes and TRAITS[file.spec.info.task].has_maps:
        size = size_text(file.spec.info.input_size[1:])
        notes.append(
            f"its maps are of {size}, of the picture as it was scaled and cut; --dynamic-size maps pictures as they are"
        )
    return Exported(path, format_name, size_of(path), parity, lines, tuple(notes))


def _check_options(spec: ModelSpec, format_name: ExportFormat, options: ExportOptions) -> None:
    given = {"--normalize": options.normalizes, "--resize": options.resizes, "--dynamic-size": options.has_free_size}
    given |= {"--opset": options.opset is not None}
    if format_name != "onnx" and (names := [name for name, is_given in given.items() if is_given]):
        raise UsageError(f"{names[0]} belongs to --format onnx; {format_name} has no such choice")
    if options.threads is not None and FORMATS[format_name].is_weights:
        raise UsageError(f"--threads belongs to programs (onnx, pt2, aoti); {format_name} is weights alone")
    if options.resizes and options.has_free_size:
        raise UsageError(
            "--resize brings images to one size, --dynamic-size takes them as they are; leave one of them out"
        )
    if options.resizes:
        check_resizable(spec)
    if options.opset is not None:
        check_opset(options.opset)


def _check_precision(file: ModelFile, format_name: ExportFormat) -> None:
    if is_quantized(file.spec.transforms) and not FORMATS[format_name].takes_int8:
        raise UsageError(
            f"{file.path} is int8, and {format_name} has no form for int8 networks that others can load: use --format onnx or aoti. "
            "Its integers and scales are plain tensors in the model file itself"
        )


def _notes(spec: ModelSpec, format_name: ExportFormat) -> list[str]:
    notes, chosen = [], FORMATS[format_name]
    is_weights_file = chosen.is_weights and not chosen.is_folder
    is_int8_package = format_name == "aoti" and is_quantized(spec.transforms)
    if spec.info.target_mean is not None and (is_int8_package or chosen.is_weights):
        notes.append(standardized_note(spec))
    if format_name == "pt2":
        notes.append("torch.export.load has no safe mode: load only .pt2 files whose maker you trust")
    if is_weights_file and spec.transforms:
        notes.append(f"sizes are those of the pruned network, which a new {spec.arch.name} does not have")
    if format_name == "aoti":
        notes.append(
            "native code, compiled for this kind of CPU and this torch: load only packages whose maker you trust"
        )
    channels = spec.info.input_size[0]
    if is_weights_file and spec.arch.registry == "torchvision" and channels != 3:
        notes.append(
            f"the first convolution takes {channels} channel{'s' if channels > 1 else ''}; torchvision's takes 3"
        )
    if format_name == "timm":
        notes.append("read back here but not loaded in timm, which knows the scheme local-dir since 2025")
    return notes


def example_of(spec: ModelSpec) -> Tensor:
    """Two samples of the size that the network takes."""
    return torch.zeros(2, *spec.info.input_size)


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    return sum(item.stat().st_size for item in path.iterdir()) if path.is_dir() else path.stat().st_size
