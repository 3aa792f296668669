"""What runs fastest here, and how to run it so: the format that it is exported in and the lines of Python that load and run it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dlkit.core.benchmark.openvino_engine import openvino_options
from dlkit.core.benchmark.speed import SpeedPlan, SpeedRow, Speeds
from dlkit.core.benchmark.timing import Ratio, speedup
from dlkit.core.export import onnx_session, torch_threads

EXPORTED = {"onnx": ("onnx", ".onnx"), "openvino": ("onnx", ".onnx"), "aoti": ("aoti", ".aoti.pt2")}


@dataclass(frozen=True)
class Deployment:
    """The fastest of all models and engines for batches of one size. `lead` is how many times as fast it is as `runner_up`, the next of
    another engine or model; both are None where nothing else ran.

    The lines of `code` load `program`, which `dlkit export` writes in `format`, and run it with the threads that it was measured with;
    both are None where they load the model itself.
    """

    batch: int
    model: str
    engine: str
    median_ms: float
    threads: int
    runner_up: tuple[str, str] | None
    lead: Ratio | None
    format: str | None
    program: str | None
    code: tuple[str, ...]

    @property
    def is_clear(self) -> bool:
        """Whether it was the faster of the two in nine rounds of ten."""
        return self.lead is None or self.lead.p10 > 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "is_clear": self.is_clear}


@dataclass(frozen=True)
class Origin:
    """What loading a model takes: `model` is the class of a network of the user's own, `foreign` are the files that `dlkit.load_model`
    does not read.
    """

    model: str | None
    foreign: frozenset[str]


def deployments(speeds: Speeds, plan: SpeedPlan, origin: Origin) -> tuple[Deployment, ...]:
    """The fastest for each batch size, rising."""
    return tuple(_deployment(speeds.ranking(batch), plan, origin) for batch in speeds.batches)


def _deployment(ranking: Sequence[SpeedRow], plan: SpeedPlan, origin: Origin) -> Deployment:
    best, second = ranking[0], ranking[1] if len(ranking) > 1 else None
    program = _program(best)
    is_exported = best.engine in EXPORTED and program != Path(best.model)
    return Deployment(
        batch=best.latency.batch,
        model=best.model,
        engine=best.engine,
        median_ms=best.latency.median_ms,
        threads=best.latency.threads,
        runner_up=(second.model, second.engine) if second else None,
        lead=speedup(second.latency, best.latency) if second else None,
        format=EXPORTED[best.engine][0] if is_exported else None,
        program=str(program) if is_exported else None,
        code=tuple(_code(best, plan, origin)),
    )


def _program(row: SpeedRow) -> Path:
    """The file that the engine runs: one beside the model, or the model itself where it is one already."""
    return Path(row.model).with_suffix(EXPORTED[row.engine][1]) if row.engine in EXPORTED else Path(row.model)


def _code(row: SpeedRow, plan: SpeedPlan, origin: Origin) -> Iterator[str]:
    threads, shape = row.latency.threads, (row.latency.batch, *plan.input_size)
    takes = f"# inputs: float32 {shape}"
    if row.engine == "onnx":
        yield from onnx_session(_program(row), threads)
        yield f"(logits,) = session.run(None, {{session.get_inputs()[0].name: inputs}})  {takes}, a NumPy array"
    elif row.engine == "openvino":
        yield "import openvino"
        yield f"model = openvino.Core().read_model({str(_program(row))!r})"
        yield f"model.reshape({list(shape)})"
        yield f'run = openvino.compile_model(model, "CPU", {openvino_options(threads)})'
        yield f"logits = run(inputs)[0]  {takes}, a NumPy array"
    elif row.engine == "aoti":
        yield from torch_threads(threads)
        yield f"network = torch._inductor.aoti_load_package({str(_program(row))!r})"
        yield f"logits = network(inputs)  {takes}"
    else:
        yield from ("import dlkit", "from dlkit.core.benchmark import start_engine", *torch_threads(threads))
        yield f"network = {_loading(row, plan, origin)}"
        yield f"run = start_engine({row.engine!r}, network, inputs)  {takes}"
        yield "logits = run(inputs)"


def _loading(row: SpeedRow, plan: SpeedPlan, origin: Origin) -> str:
    if row.model in origin.foreign:
        return f"...  # {row.model} in its network"
    arguments = [repr(row.model)]
    arguments += [f"model={origin.model!r}"] if origin.model else []
    arguments += [] if plan.device.type == "cpu" else [f"device={str(plan.device)!r}"]
    return f"dlkit.load_model({', '.join(arguments)})"
