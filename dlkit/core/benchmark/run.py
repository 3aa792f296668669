"""`dlkit bench`: files to networks, networks to latencies. The table of contents of the command."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlkit.config import LoadedConfig
from dlkit.core.benchmark.deployment import Deployment, Origin, deployments
from dlkit.core.benchmark.engines import ENGINES, check_engines
from dlkit.core.benchmark.machine import Machine, describe_machine
from dlkit.core.benchmark.onnx_files import read_onnx_file
from dlkit.core.benchmark.speed import SpeedPlan, Speeds, TimedModel, measure_speeds
from dlkit.core.devices import pick_device, torch_settings
from dlkit.core.modelfile import build_from_file, is_model_file, parse_model_file
from dlkit.core.models import has_int8_layers
from dlkit.core.opening import Naming, open_model, read_path
from dlkit.errors import UsageError
from dlkit.events import Emit, Event, Note, ignore
from dlkit.shapes import size_text
from dlkit.suggestions import did_you_mean

DATA = "standard normal numbers, seed 0"


@dataclass(frozen=True)
class BenchRequest:
    """What is asked for. `input_size` is one sample's, None for what the files say; `baseline` is MODEL or MODEL:ENGINE.

    `naming` and `data` describe weights from elsewhere; model files say themselves what they are.
    """

    models: tuple[Path, ...]
    engines: tuple[str, ...] = ENGINES
    batches: tuple[int, ...] = (1, 16)
    seconds: float = 10.0
    threads: int | None = None
    device: str = "auto"
    input_size: tuple[int, ...] | None = None
    baseline: str | None = None
    naming: Naming = field(default_factory=Naming)
    data: LoadedConfig | None = None


@dataclass(frozen=True)
class BenchedFile:
    """A file that was measured."""

    name: str
    is_int8: bool
    bytes: int


@dataclass(frozen=True)
class BenchResult:
    """Everything about a measurement: where, on what input, of which files, with which outcome and caveats."""

    machine: Machine
    input_size: tuple[int, ...]
    files: tuple[BenchedFile, ...]
    speeds: Speeds
    fastest: tuple[Deployment, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "machine": asdict(self.machine),
            "input": {"size": list(self.input_size), "data": DATA},
            "files": [asdict(file) for file in self.files],
            **self.speeds.to_dict(),
            "fastest": [deployment.to_dict() for deployment in self.fastest],
            "notes": list(self.notes),
        }


def run_bench(request: BenchRequest, *, emit: Emit = ignore) -> BenchResult:
    """Measure model files, and `.onnx` files through ONNX Runtime and OpenVINO, all engines interleaved.

    Raises UsageError for an unknown engine, models that take different inputs, and when nothing could run; FileRefused.
    """
    check_engines(request.engines)
    _check_models(request.models)
    baseline = _parse_baseline(request)
    notes: list[str] = []

    def note_and_report(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)
        emit(event)

    with torch_settings(threads=request.threads):
        opened = [_open(path, request) for path in request.models]
        input_size = request.input_size or _common_input_size(opened)
        models = [one.model for one in opened]
        device = _pick_device(request.device, models, note_and_report)
        for model in models:
            if isinstance(model.source, nn.Module):
                model.source.to(device)
        plan = SpeedPlan(input_size, device, request.batches, request.engines, request.seconds, baseline)
        speeds = measure_speeds(models, plan, emit=note_and_report)
        files = tuple(BenchedFile(one.model.name, one.model.is_int8, one.num_bytes) for one in opened)
        fastest = deployments(speeds, plan, _origin(request, opened))
        return BenchResult(describe_machine(device), input_size, files, speeds, fastest, tuple(notes))


def _check_models(paths: Sequence[Path]) -> None:
    for index, path in enumerate(paths):
        if path in paths[:index]:
            raise UsageError(f"{path} is named twice")


def _parse_baseline(request: BenchRequest) -> tuple[str, str] | None:
    """MODEL is its eager row, or ONNX Runtime's for an `.onnx` file; MODEL:ENGINE says which."""
    if request.baseline is None:
        return None
    names = [str(path) for path in request.models]
    model, _, engine = request.baseline.rpartition(":")
    if engine not in ENGINES:
        model, engine = request.baseline, "onnx" if _is_onnx(Path(request.baseline)) else "eager"
    if model not in names:
        raise UsageError(f"--baseline {request.baseline}: not one of the models{did_you_mean(model, names)}")
    return model, engine


@dataclass(frozen=True)
class _Opened:
    model: TimedModel
    num_bytes: int
    input_size: tuple[int, ...] | None
    is_foreign: bool = False


def _open(path: Path, request: BenchRequest) -> _Opened:
    if _is_onnx(path):
        program = read_onnx_file(path)
        return _Opened(TimedModel(str(path), path, program.is_int8), path.stat().st_size, program.input_size)
    value = read_path(path)
    is_foreign = not is_model_file(value)
    # a dlkit file says itself what it is; naming is for the other files, which may stand beside it
    file = open_model(path, request.naming, data=request.data) if is_foreign else parse_model_file(path, value)
    network = build_from_file(file, model=request.naming.model)
    info = file.spec.info
    model = TimedModel(str(path), network, has_int8_layers(network), info.task)
    return _Opened(model, path.stat().st_size, info.input_size, is_foreign)


def _origin(request: BenchRequest, opened: Sequence[_Opened]) -> Origin:
    return Origin(request.naming.model, frozenset(one.model.name for one in opened if one.is_foreign))


def _is_onnx(path: Path) -> bool:
    return path.suffix.lower() == ".onnx"


def _common_input_size(opened: Sequence[_Opened]) -> tuple[int, ...]:
    sizes = {one.model.name: one.input_size for one in opened if one.input_size is not None}
    if not sizes:
        raise UsageError(f"{opened[0].model.name} does not tell the size of its input; give it: --input 3x224x224")
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size_text(size)}" for name, size in sizes.items())
        raise UsageError(
            f"the models take different inputs ({told}); compare those that take the same, or give --input"
        )
    return next(iter(sizes.values()))


def _pick_device(name: str, models: Sequence[TimedModel], emit: Emit) -> torch.device:
    """The device of that name, but the CPU when a model runs nowhere else: all are measured on the same one."""
    if not any(model.is_int8 or isinstance(model.source, Path) for model in models):
        return pick_device(name)
    if name not in ("auto", "cpu"):
        emit(Note(f"int8 networks and .onnx files run on the CPU only, so all do; {name} is not used"))
    return torch.device("cpu")
