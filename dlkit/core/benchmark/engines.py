"""Ways to run a network, each started on real inputs and compared with eager before anybody times it."""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dlkit.core.benchmark.onnx_engine import require_onnxruntime, start_onnx_file
from dlkit.core.benchmark.onnx_files import written_as_onnx
from dlkit.core.benchmark.openvino_engine import require_openvino, start_openvino_file
from dlkit.core.benchmark.sparse_engine import start_sparse
from dlkit.core.benchmark.unavailable import EngineUnavailable
from dlkit.core.environment import NO_COMPILER, find_compiler
from dlkit.core.export import export_aoti, load_aoti
from dlkit.core.models import copy_network, fitted_copy, has_int8_layers, unpacked_copy
from dlkit.core.out_of_memory import is_out_of_memory
from dlkit.core.scoring import SCORES
from dlkit.errors import DlkitError, OutOfResource, UsageError, first_line
from dlkit.shapes import size_text
from dlkit.suggestions import did_you_mean
from dlkit.tasks import TaskName

ENGINES = ("eager", "channels_last", "compile", "frozen", "onnx", "openvino", "aoti", "sparse")
FILE_ENGINES = {"onnx": start_onnx_file, "openvino": start_openvino_file}  # those that run `.onnx` files
FLOAT_TOLERANCE = 1e-3  # of the largest output: other convolution algorithms round differently
INT8_TOLERANCE = (
    0.05  # ONNX Runtime rounds halves the other way at some places, one step of 1/127 and a few layers deep
)

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Difference:
    """How far outputs are from eager's: the largest difference as it is, and as a fraction of the largest output.

    `agreement` is the share of samples, or of labels, for which the same is decided; None where nothing is.
    """

    largest: float
    relative: float
    agreement: float | None


@dataclass(frozen=True)
class StartedEngine:
    """A network that is ready to run and gave eager's outputs. `difference` is the largest over all examples.

    `run` is to be called in inference mode, in which it was started.
    """

    name: str
    run: Run
    difference: Difference

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs for a batch that lies contiguous in memory; other layouts are made inside, at its cost."""
        with torch.inference_mode():
            return self.run(inputs)


def start_engine(
    name: str,
    network: nn.Module,
    example: Tensor,
    *,
    more_examples: Sequence[Tensor] = (),
    task: TaskName = "classification",
) -> StartedEngine:
    """A float or int8 network for a task, in evaluation mode, run by an engine of ENGINES.

    `more_examples` are inputs of other batch sizes that will be run; what compiles for a shape does it now. The network is
    left as it is. Raises EngineUnavailable, with the reason, for an engine that cannot run it here or gives other outputs
    than eager, and UsageError for an unknown name and when the network itself does not take the examples.
    """
    check_engines([name])
    examples = (example, *more_examples)
    with torch.inference_mode():
        wanted = [run_eagerly(network, inputs) for inputs in examples]
        try:
            with _quiet_torch():
                run = STARTERS[name](network, examples)
            found = [run(inputs) for inputs in examples]
        except EngineUnavailable:
            raise
        except Exception as error:  # exporters and compilers fail with many kinds of error; the reason is shown
            raise EngineUnavailable(name, f"{type(error).__name__}: {first_line(error, 200)}") from error
    is_int8 = has_int8_layers(network)
    differences = [difference_of(*pair, task=task) for pair in zip(wanted, found, strict=True)]
    for difference in differences:
        require_agreement(name, difference, is_int8=is_int8)
    return StartedEngine(name, run, max(differences, key=lambda difference: difference.relative))


def check_engines(names: Sequence[str]) -> None:
    """Raise UsageError, with the name that comes close, for an engine that is none."""
    for name in names:
        if name not in ENGINES:
            raise UsageError(f"no engine {name!r}.{did_you_mean(name, ENGINES)} Engines: {', '.join(ENGINES)}")


def run_eagerly(network: nn.Module, inputs: Tensor) -> Tensor:
    """The network's own outputs. Raises UsageError when it does not take the inputs or gives something else than a tensor,
    and OutOfResource when they are too many.
    """
    shape = size_text(inputs.shape)
    try:
        outputs = network(inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, MemoryError) as error:
        if is_out_of_memory(error):
            raise OutOfResource(f"out of memory on inputs of {shape}; take smaller batches") from error
        raise UsageError(f"the network does not run on inputs of {shape}: {first_line(error, 200)}") from error
    if not isinstance(outputs, Tensor):
        raise UsageError(f"the network gives a {type(outputs).__name__}; only networks with one output can be compared")
    return outputs


def difference_of(wanted: Tensor, found: Tensor, *, task: TaskName = "classification") -> Difference:
    """How far outputs (N, ...) are from those that are wanted."""
    wanted, found = wanted.detach().float().cpu(), found.detach().float().cpu()
    if wanted.shape != found.shape:
        return Difference(float("inf"), float("inf"), None)
    largest = (wanted - found).abs().max().item()
    scale = wanted.abs().max().item()
    relative = largest / scale if scale else float(largest > 0)
    return Difference(largest, relative, SCORES[task]().agreement(wanted, found))


def require_agreement(name: str, difference: Difference, *, is_int8: bool) -> None:
    """Raise EngineUnavailable when outputs are not the same network's. int8 may differ by rounding, or choose alike."""
    tolerance = INT8_TOLERANCE if is_int8 else FLOAT_TOLERANCE
    if difference.relative <= tolerance or (is_int8 and difference.agreement == 1.0):
        return
    agreed = "" if difference.agreement is None else f", and {difference.agreement:.0%} of the decisions are the same"
    raise EngineUnavailable(
        name,
        f"its outputs are not eager's: they differ by {difference.relative:.1%} of the largest output (at most {tolerance:.1%} is "
        f"taken){agreed}",
    )


@contextmanager
def _quiet_torch() -> Iterator[None]:
    """Keep what torch warns of while it traces, exports and compiles from users, who have asked for a measurement."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _start_eager(network: nn.Module, examples: Sequence[Tensor]) -> Run:
    return _one_per_shape(network) if has_int8_layers(network) else network


def _one_per_shape(network: nn.Module) -> Run:
    """A copy for each shape of inputs: oneDNN lays weights out for one shape, and others run slower.

    So an int8 network is measured as in a service that runs batches of one size, whatever it has run before.
    """
    copies: dict[torch.Size, nn.Module] = {}

    def run(inputs: Tensor) -> Tensor:
        if inputs.shape not in copies:
            copies[inputs.shape] = fitted_copy(network, inputs)
        outputs: Tensor = copies[inputs.shape](inputs)
        return outputs

    return run


def _start_channels_last(network: nn.Module, examples: Sequence[Tensor]) -> Run:
    """A copy with weights in that layout; int8 layers have packed theirs so already."""
    if examples[0].ndim != 4:
        raise EngineUnavailable(
            "channels_last", f"it needs images (N, C, H, W), not inputs of {examples[0].ndim} dimensions"
        )
    if has_int8_layers(network):
        run = _one_per_shape(network)
    else:
        run = copy_network(network).to(memory_format=torch.channels_last)
    return lambda inputs: run(inputs.contiguous(memory_format=torch.channels_last))


def _start_compile(network: nn.Module, examples: Sequence[Tensor]) -> Run:
    """torch.compile with weights frozen into the graph, one program per shape. Options are for this call, not global.

    Freezing needs its option while the graph is traced, and no gradients; in inference mode torch takes weights for inputs.
    """
    if examples[0].device.type == "cpu" and not find_compiler():
        raise EngineUnavailable("compile", NO_COMPILER)
    import torch._dynamo.config as dynamo_config  # takes a second to import
    import torch._inductor.config as inductor_config

    compiled: Run = torch.compile(unpacked_copy(network), dynamic=False)

    def run(inputs: Tensor) -> Tensor:
        with torch.inference_mode(mode=False), torch.no_grad():
            return compiled(inputs.clone() if inputs.is_inference() else inputs)

    # one class may be compiled for several models and shapes; beyond the limit it would silently run eagerly
    limits = dynamo_config.patch(recompile_limit=256, fail_on_recompile_limit_hit=True)
    with limits, inductor_config.patch(freezing=True):
        for example in examples:
            run(example)
    return run


def _start_frozen(network: nn.Module, examples: Sequence[Tensor]) -> Run:
    """TorchScript: traced, weights frozen. Deprecated, but it leaves Python out and fuses int8's dequantize and quantize."""
    traced = torch.jit.trace(network, examples[0], check_trace=False)  # type: ignore[no-untyped-call]
    frozen: Run = torch.jit.freeze(traced)
    return frozen if has_int8_layers(network) else torch.jit.optimize_for_inference(traced)


def _start_onnx(network: nn.Module, examples: Sequence[Tensor]) -> Run:
    require_onnxruntime()
    with written_as_onnx(network, examples[0], "onnx") as path:
        return start_onnx_file(path)


def _start_openvino(network: nn.Module, examples: Sequence[Tensor]) -> Run:
    require_openvino()
    with written_as_onnx(network, examples[0], "openvino") as path:
        run = start_openvino_file(path)
        for example in examples:
            run(example)
    return run


def _start_aoti(network: nn.Module, examples: Sequence[Tensor]) -> Run:
    """What `dlkit export --format aoti` writes: one program for all batch sizes."""
    if examples[0].device.type != "cpu":
        raise EngineUnavailable("aoti", f"compiled packages are measured on the CPU, not on {examples[0].device}")
    with tempfile.TemporaryDirectory(prefix="dlkit-aoti-") as folder:
        path = Path(folder) / "network.pt2"
        try:
            export_aoti(network, path, examples[0])
        except DlkitError as error:
            raise EngineUnavailable("aoti", str(error)) from error
        return load_aoti(path)


STARTERS: dict[str, Callable[[nn.Module, Sequence[Tensor]], Run]] = {
    "eager": _start_eager,
    "channels_last": _start_channels_last,
    "compile": _start_compile,
    "frozen": _start_frozen,
    "onnx": _start_onnx,
    "openvino": _start_openvino,
    "aoti": _start_aoti,
    "sparse": lambda network, examples: start_sparse(network),
}
