"""`dlkit quantize`: an int8 model file, and the proof of what that changed."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dlkit.cli.options import (
    ArchName,
    AsJson,
    DataOption,
    Force,
    ImageSize,
    ModelFile,
    Network,
    NoLatency,
    NumClasses,
)
from dlkit.cli.plain_help import PlainCommand
from dlkit.cli.quantize.options import (
    IMAGES,
    BackendOption,
    Calib,
    Distill,
    Dynamic,
    Epochs,
    Export,
    Keep,
    KeepFloat,
    Lr,
    MaxDrop,
    NoCorrection,
    ObserverOption,
    Output,
    PerTensor,
    Qat,
    ReduceOption,
    Seconds,
    SeedOption,
    Sensitivity,
    SplitOption,
    Static,
)
from dlkit.errors import UsageError
from dlkit.signals import stopped_by_signals

if TYPE_CHECKING:
    from dlkit.choices import QuantizeMode
    from dlkit.core.opening import Naming
    from dlkit.quantize import Outcome, QuantizeRequest, Ranking

EPILOG = """Writes MODEL.MODE-int8.pt, .report.json and .png beside the model, or nothing at all. Where only the --export fails, these
are written, and it ends with that error. Without layers that run in int8, or when the saved file does not give the same outputs in a
fresh process, it ends with an error too."""


app = typer.Typer()


@app.command("quantize", cls=PlainCommand, epilog=EPILOG, no_args_is_help=True)
def quantize(
    model: ModelFile, dynamic: Dynamic = False, static: Static = False, qat: Qat = False, data: DataOption = None,
    calib: Calib = None, backend: BackendOption = "auto", observer: ObserverOption = "histogram",
    per_tensor: PerTensor = False, reduce: ReduceOption = "auto", no_bias_correction: NoCorrection = False,
    keep_float: KeepFloat = None, max_drop: MaxDrop = None, sensitivity: Sensitivity = False, epochs: Epochs = None,
    lr: Lr = None, distill: Distill = False, keep: Keep = "best", export: Export = None, arch: ArchName = None,
    num_classes: NumClasses = None, image_size: ImageSize = None, network: Network = None, split: SplitOption = None,
    seconds: Seconds = 3.0, no_latency: NoLatency = False, output: Output = None, force: Force = False,
    seed: SeedOption = 0, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make an int8 model file, and measure accuracy, size and latency before and after."""
    mode = _pick_mode(dynamic=dynamic, static=static, qat=qat, sensitivity=sensitivity)
    from dlkit.config import load_data_option
    from dlkit.core.opening import Naming
    from dlkit.quantize import QuantizeRequest

    with stopped_by_signals("nothing was written"):
        images = Path(data.removeprefix(IMAGES)) if data and data.startswith(IMAGES) else None
        naming = Naming(arch, num_classes, image_size, network)
        request = QuantizeRequest(
            mode=mode, writes_model=dynamic or static or qat, rank_layers=sensitivity,
            data=load_data_option(data) if data and not images else None, images=images, model=network,
            num_calibration=calib, seed=seed, split=split, seconds=None if no_latency else seconds,
            backend=backend, observer=observer, is_per_channel=not per_tensor, reduce=reduce,
            use_bias_correction=not no_bias_correction, keep_float=tuple(keep_float or ()), max_drop=max_drop,
            epochs=epochs, lr=lr, is_distilled=distill, keep=keep, output=output, is_forced=force, exports=(export,) if export else (),
        )  # fmt: skip
        result = _run(model, naming, request, is_quiet=as_json)
    _show(result, naming, data, as_json=as_json)


def _pick_mode(*, dynamic: bool, static: bool, qat: bool, sensitivity: bool) -> "QuantizeMode":
    """The mode that was asked for. A ranking alone is made as a static one. Raises UsageError unless it is one."""
    modes: dict[QuantizeMode, bool] = {"dynamic": dynamic, "static": static, "qat": qat}
    given = [mode for mode, is_given in modes.items() if is_given]
    if not given and sensitivity:
        return "static"
    if len(given) != 1:
        what = "none of them" if not given else " and ".join(f"--{mode}" for mode in given)
        raise UsageError(f"give one of --dynamic, --static and --qat; got {what}")
    return given[0]


def _run(model: Path, naming: "Naming", request: "QuantizeRequest", *, is_quiet: bool) -> "Outcome | Ranking":
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.core.opening import open_model
    from dlkit.quantize import run_quantization, run_ranking

    with prints_aside(), open_display(quiet=is_quiet, verbose=False, as_json=False) as display:
        file = open_model(model, naming, data=request.data, emit=display.emit)
        if request.writes_model:
            return run_quantization(file, request, display.emit)
        return run_ranking(file, request, display.emit)


def _show(result: "Outcome | Ranking", naming: "Naming", data: str | None, *, as_json: bool) -> None:
    from dlkit.cli.quantize.show import show_outcome, show_ranking
    from dlkit.quantize import Ranking

    if isinstance(result, Ranking):
        show_ranking(result, naming, data, as_json=as_json)
        return
    show_outcome(result, naming, data, as_json=as_json)
    if result.export_failure:  # what was asked for is not there, so that this is no success
        raise result.export_failure
