"""What each part of static quantization is worth: accuracy and SQNR of trained networks without and with it.

Rows add one part after the other: torch's own default (7-bit activations on x86, histogram observers); the bit taken from the
weights instead; no codes for what the next activation throws away; bias correction; equalization; then other observers and
what `quantize_accurately` picks. Every row is a real int8 network, run by its int8 kernels. The same is measured on the
network made hard: channels rescaled by up to 100 both ways along every link, which changes nothing in float.

    python benchmarks/quantize_ablation.py MODEL.pt... [--limit 10000] [--calib 512] [--hard] [--per-tensor] [--short]

Prints a table in markdown for every network. Use one thread (OMP_NUM_THREADS=1) for numbers that repeat.
"""

import argparse
import copy
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.core.data import build_eval_split, draw_calibration
from dlkit.core.modelfile import build_from_file, read_model_file
from dlkit.core.trained_config import own_config
from dlkit.quantize import (
    Recipe,
    Remedies,
    calibrate,
    convert,
    equalize,
    fidelity_of,
    find_links,
    first_samples,
    observe_network,
    outputs_of,
    pick_backend,
    pick_reduce,
    prepare,
    quantize_accurately,
    scale_link,
    shift_biases,
)

CORRECTED_ON = 256
MOST_RESCALING = 100.0


@dataclass(frozen=True)
class Case:
    """A float network with what it is calibrated and judged on. `reference` are its own outputs."""

    network: nn.Module
    calibration: list[Tensor]
    inputs: list[Tensor]
    targets: Tensor
    reference: Tensor

    @property
    def accuracy(self) -> float:
        """In percent."""
        return accuracy(self.reference, self.targets)


@dataclass(frozen=True)
class Row:
    """One line of the table. `drop` in points; SQNR of the outputs in dB; `agreement` of the predicted classes in percent."""

    what: str
    drop: float
    sqnr_db: float
    agreement: float
    seconds: float


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """In percent."""
    return 100 * (outputs.argmax(1) == targets).double().mean().item()


def open_case(path: Path, *, limit: int, num_calibration: int, seed: int) -> Case:
    """A model file with its own test and calibration data."""
    file = read_model_file(path)
    loaded, info = own_config(file), file.spec.info
    split = build_eval_split(loaded, info, split="test", device=torch.device("cpu"), batch_size=250)
    inputs, targets = zip(*((batch.inputs, batch.targets) for batch in split.batches()), strict=True)
    network = build_from_file(file)
    inputs, wanted = first_samples(inputs, limit), torch.cat(targets)[:limit]
    calibration = draw_calibration(loaded, info, count=num_calibration, seed=seed)
    return Case(network, calibration, inputs, wanted, outputs_of(network, inputs))


def make_hard(case: Case) -> Case:
    """The same function with channels of unlike range."""
    network = copy.deepcopy(case.network)
    generator = torch.Generator().manual_seed(0)
    for link in find_links(network):
        if not link.is_capped:
            count = len(network.get_submodule(link.source).weight)
            scale_link(network, link, MOST_RESCALING ** (2 * torch.rand(count, generator=generator) - 1))
    return replace(case, network=network)


def make(
    case: Case, recipe: Recipe, *, has_clipping: bool = True, has_correction: bool = True, is_equalized: bool = False
) -> GraphModule:
    """An int8 network with these parts."""
    network = equalize(case.network, case.calibration).network if is_equalized else case.network
    if has_clipping:
        prepared = observe_network(network, recipe, case.calibration)
    else:  # with all of the range in front of an activation
        prepared = prepare(network, recipe, case.calibration[0][:1])
        calibrate(prepared, case.calibration)
    converted = convert(prepared, recipe)
    if has_correction:
        shift_biases(prepared, converted, first_samples(case.calibration, CORRECTED_ON))
    return converted


def ways(case: Case, recipe: Recipe, *, is_short: bool) -> Iterator[tuple[str, Callable[[], GraphModule]]]:
    """What is compared, by name."""
    for name, reduce in (("7-bit activations", "activations"), ("7-bit weights", "weights"), ("8 and 8 bits", "none")):
        plain = replace(recipe, reduce=reduce)
        yield name, lambda plain=plain: make(case, plain, has_clipping=False, has_correction=False)
    yield "+ clipping to activations", lambda: make(case, recipe, has_correction=False)
    yield "+ bias correction", lambda: make(case, recipe)
    yield "+ equalization", lambda: make(case, recipe, is_equalized=True)
    if is_short:
        return
    for observer in ("minmax", "percentile"):
        other = replace(recipe, observer=observer)
        yield f"bias correction, observer {observer}", lambda other=other: make(case, other)
    yield "picked", lambda: quantize_accurately(case.network, recipe, case.calibration, remedies=Remedies()).network
    every = Remedies(observers=("minmax", "percentile"))
    yield (
        "picked, all observers",
        lambda: quantize_accurately(case.network, recipe, case.calibration, remedies=every).network,
    )


def measure(case: Case, what: str, build: Callable[[], GraphModule], recipe: Recipe) -> Row:
    """Build and judge."""
    start = time.perf_counter()
    network = build()
    seconds = time.perf_counter() - start
    outputs = outputs_of(network, case.inputs)
    fidelity = fidelity_of(case.reference, outputs)
    drop = case.accuracy - accuracy(outputs, case.targets)
    return Row(what, drop, fidelity.sqnr_db, 100 * fidelity.agreement, seconds)


def show(title: str, rows: Sequence[Row]) -> None:
    """A table in markdown."""
    print(f"\n{title}\n\n| | drop (points) | SQNR (dB) | same class (%) | s |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.drop:+.2f} | {row.sqnr_db:.1f} | {row.agreement:.2f} | {row.seconds:.0f} |")


def main() -> None:
    """Measure all that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--calib", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0, help="of the calibration samples")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--hard", action="store_true", help="also with channels of unlike range")
    parser.add_argument("--per-tensor", action="store_true", help="also with one scale per weight tensor")
    parser.add_argument("--short", action="store_true", help="only the rows that build on each other")
    options = parser.parse_args()
    backend = pick_backend(options.backend)
    print(f"torch {torch.__version__}, {platform.machine()}, engine {backend}, {options.calib} calibration samples")
    for path in options.models:
        case = open_case(path, limit=options.limit, num_calibration=options.calib, seed=options.seed)
        name = path.parent.name if path.name == "model.pt" else path.stem
        for is_hard in (False, True) if options.hard else (False,):
            judged = make_hard(case) if is_hard else case
            for is_per_channel in (True, False) if options.per_tensor else (True,):
                recipe = Recipe("static", backend, is_per_channel=is_per_channel, reduce=pick_reduce(backend))
                title = f"**{name}**{', channels rescaled' if is_hard else ''}, per {'channel' if is_per_channel else 'tensor'}"
                rows = [
                    measure(judged, what, build, recipe) for what, build in ways(judged, recipe, is_short=options.short)
                ]
                show(f"{title}: float accuracy {case.accuracy:.2f} % on {len(case.targets):,} test samples", rows)


if __name__ == "__main__":
    main()
