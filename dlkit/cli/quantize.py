"""`dlkit quantize`: an int8 model file, and the proof of what that changed."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlkit.cli.options import ArchName, DataOption, ImageSize, ModelFile, Network, NumClasses, SplitChoice
from dlkit.cli.signals import stopped_by_signals
from dlkit.errors import UsageError

if TYPE_CHECKING:
    from dlkit.quantize import Outcome, Ranking

EPILOG = """Writes MODEL.MODE-int8.pt, .report.json and .png beside the model, or nothing at all. Without layers that run in
int8, or when the saved file does not give the same outputs in a fresh process, it ends with an error."""


class BackendChoice(StrEnum):
    """The engines of int8 kernels."""

    auto = "auto"
    x86 = "x86"
    fbgemm = "fbgemm"
    onednn = "onednn"
    qnnpack = "qnnpack"


class ObserverChoice(StrEnum):
    """How ranges of activations are found."""

    histogram = "histogram"
    minmax = "minmax"
    percentile = "percentile"
    mse = "mse"


class ReduceChoice(StrEnum):
    """What gives up a bit where kernels would saturate."""

    auto = "auto"
    weights = "weights"
    activations = "activations"
    none = "none"


class ExportChoice(StrEnum):
    """Formats that can be written besides."""

    onnx = "onnx"


Dynamic = Annotated[bool, typer.Option("--dynamic", help="int8 weights of linear and recurrent layers; needs no data.")]
Static = Annotated[bool, typer.Option("--static", help="int8 weights and activations, calibrated on training samples.")]
Qat = Annotated[bool, typer.Option("--qat", help="Fine-tune with int8 in mind, then convert; the most accurate.")]
Calib = Annotated[
    int | None,
    typer.Option(
        "--calib",
        min=1,
        help="Samples to calibrate on, drawn by seed; default is 512.",
        metavar="N",
        show_default=False,
    ),
]
Backend = Annotated[BackendChoice, typer.Option("--backend", help="Engine of the int8 kernels; auto fits this CPU.")]
Observer = Annotated[ObserverChoice, typer.Option("--observer", help="How the ranges of activations are found.")]
PerTensor = Annotated[
    bool, typer.Option("--per-tensor", help="One scale per weight tensor, not one per output channel.")
]
Reduce = Annotated[
    ReduceChoice,
    typer.Option("--reduce", help="What takes 7 bits where kernels of this backend could saturate with 8."),
]
NoCorrection = Annotated[
    bool, typer.Option("--no-bias-correction", help="Leave the mean error of each layer in its output.")
]
KeepFloat = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-float",
        help="Modules to leave in float, as a glob; first and last are the outermost layers. May be given again.",
        metavar="GLOB",
        show_default=False,
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        min=0,
        help="Keep the most sensitive layers in float until the accuracy on the validation split drops by at most this.",
        metavar="POINTS",
        show_default=False,
    ),
]
Sensitivity = Annotated[
    bool, typer.Option("--sensitivity", help="Rank the layers by what int8 costs in each; writes no model.")
]
Epochs = Annotated[
    float | None,
    typer.Option(
        "--epochs",
        min=0,
        help="Epochs of --qat, may be a fraction of one; default is 2.",
        metavar="N",
        show_default=False,
    ),
]
Lr = Annotated[float | None, typer.Option("--lr", help="Learning rate of --qat.", show_default=False)]
Export = Annotated[
    ExportChoice | None,
    typer.Option("--export", help="Also write the int8 network in this format.", show_default=False),
]
SplitOption = Annotated[
    SplitChoice | None, typer.Option("--split", help="Which split to judge on; default is test.", show_default=False)
]
Seconds = Annotated[float, typer.Option("--seconds", min=0.1, help="Time for measuring latency, for each batch size.")]
NoLatency = Annotated[bool, typer.Option("--no-latency", help="Measure no latency.")]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="The int8 model file.", metavar="FILE", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Which samples calibrate, and the order of --qat.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def quantize(
    model: ModelFile,
    dynamic: Dynamic = False,
    static: Static = False,
    qat: Qat = False,
    data: DataOption = None,
    calib: Calib = None,
    backend: Backend = BackendChoice.auto,
    observer: Observer = ObserverChoice.histogram,
    per_tensor: PerTensor = False,
    reduce: Reduce = ReduceChoice.auto,
    no_bias_correction: NoCorrection = False,
    keep_float: KeepFloat = None,
    max_drop: MaxDrop = None,
    sensitivity: Sensitivity = False,
    epochs: Epochs = None,
    lr: Lr = None,
    export: Export = None,
    arch: ArchName = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = None,
    network: Network = None,
    split: SplitOption = None,
    seconds: Seconds = 3.0,
    no_latency: NoLatency = False,
    output: Output = None,
    force: Force = False,
    seed: SeedOption = 0,
    as_json: AsJson = False,
) -> None:
    """Make an int8 model file, and measure accuracy, size and latency before and after."""
    weights = {"arch": arch, "num_classes": num_classes, "image_size": image_size, "model": network}
    accuracy: dict[str, Any] = {"observer": observer.value, "is_per_channel": not per_tensor, "reduce": reduce.value}
    accuracy |= {"use_bias_correction": not no_bias_correction, "max_drop": max_drop, "epochs": epochs, "lr": lr}
    samples: dict[str, Any] = {"num_calibration": calib, "seed": seed, "split": split.value if split else None}
    files = {"output": output, "is_forced": force, "exports": (export.value,) if export else ()}
    rest = {"backend": backend.value, "keep_float": tuple(keep_float or ()), "seconds": None if no_latency else seconds}
    mode = _mode(dynamic=dynamic, static=static, qat=qat, sensitivity=sensitivity)
    result = _run(model, data, weights, mode | accuracy | samples | files | rest, is_quiet=as_json)
    _show(result, weights, data, as_json=as_json)


def _mode(*, dynamic: bool, static: bool, qat: bool, sensitivity: bool) -> dict[str, Any]:
    """The mode that was asked for. A ranking alone is made as a static one, and writes no model."""
    modes = {"dynamic": dynamic, "static": static, "qat": qat}
    given = [mode for mode, is_given in modes.items() if is_given]
    if not given and sensitivity:
        return {"mode": "static", "rank_layers": True, "writes_model": False}
    if len(given) != 1:
        what = "none of them" if not given else " and ".join(f"--{mode}" for mode in given)
        raise UsageError(f"give one of --dynamic, --static and --qat; got {what}")
    return {"mode": given[0], "rank_layers": sensitivity}


@stopped_by_signals("nothing was written")
def _run(
    model: Path, data: str | None, weights: dict[str, Any], asked: dict[str, Any], *, is_quiet: bool
) -> "Outcome | Ranking":
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.config import load_data_option
    from dlkit.core.opening import open_model
    from dlkit.quantize import QuantizeRequest, run_quantization, run_ranking

    loaded = load_data_option(data) if data else None
    request = QuantizeRequest(data=loaded, model=weights["model"], **asked)
    with prints_aside(), open_display(quiet=is_quiet, verbose=False, as_json=False) as display:
        file = open_model(model, data=loaded, **weights)
        if request.writes_model:
            return run_quantization(file, request, display.emit)
        return run_ranking(file, request, display.emit)


def _show(result: "Outcome | Ranking", weights: dict[str, Any], data: str | None, *, as_json: bool) -> None:
    from dlkit.cli.show_quantize import Given, show_outcome, show_ranking
    from dlkit.quantize import Ranking

    given = Given.of(weights, data)
    if isinstance(result, Ranking):
        show_ranking(result, given, as_json=as_json)
    else:
        show_outcome(result, given, as_json=as_json)
