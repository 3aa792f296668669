"""What a user asks of a quantization, in plain values, and the files that it will write."""

import math
from dataclasses import dataclass
from pathlib import Path

from dlkit.choices import AskedBackend, AskedReduce, Int8Export, Observer, QatKeep, QuantizeMode, SplitName
from dlkit.config import LoadedConfig
from dlkit.core.export import require_onnx
from dlkit.core.modelfile import ModelFile
from dlkit.core.rewrites import is_quantized
from dlkit.errors import UsageError
from dlkit.files import check_ending, check_outputs
from dlkit.tasks import TRAITS

DEFAULT_CALIBRATION = 512
NEVER_REPLACED = "the float model itself, which is never replaced"


@dataclass(frozen=True)
class QuantizeRequest:
    """`keep_float` are globs over modules, `first` and `last`; `max_drop` is in points of accuracy or mAP, 0.5 being 0.5 %.

    `model` names the class of a user's own network again. Without `seconds` no latency is measured. `data` replaces what the model was
    trained on; `images` is a folder of pictures without labels to calibrate on, where nothing is judged. `epochs`, `lr`,
    `is_distilled` (the float network teaches) and `keep` are for quantization-aware training.
    """

    mode: QuantizeMode
    output: Path | None = None
    data: LoadedConfig | None = None
    images: Path | None = None
    model: str | None = None
    num_calibration: int | None = None
    backend: AskedBackend = "auto"
    observer: Observer = "histogram"
    is_per_channel: bool = True
    reduce: AskedReduce = "auto"
    use_bias_correction: bool = True
    keep_float: tuple[str, ...] = ()
    max_drop: float | None = None
    rank_layers: bool = False
    writes_model: bool = True
    epochs: float | None = None
    lr: float | None = None
    is_distilled: bool = False
    keep: QatKeep = "best"
    exports: tuple[Int8Export, ...] = ()
    split: SplitName | None = None
    seconds: float | None = 3.0
    is_forced: bool = False
    seed: int = 0

    @property
    def num_samples(self) -> int:
        """How many samples to calibrate on."""
        return DEFAULT_CALIBRATION if self.num_calibration is None else self.num_calibration


@dataclass(frozen=True)
class QuantizeOutputs:
    """Where the results go; `exported` is None unless it was asked for."""

    model: Path
    report: Path
    picture: Path
    exported: Path | None

    def listed(self) -> list[Path]:
        """All of them."""
        return [path for path in (self.model, self.report, self.picture, self.exported) if path is not None]


STATIC_KEPT = "qat-kept-static"  # in the name of a file that --qat found nothing better than


def plan_paths(file: ModelFile, request: QuantizeRequest, *, is_static_kept: bool = False) -> QuantizeOutputs:
    """`model.static-int8.pt` beside model.pt, and the others beside that. Raises OutputError for one that is there already."""
    made = STATIC_KEPT if is_static_kept else request.mode
    model = request.output or file.path.with_name(f"{file.path.stem}.{made}-int8.pt")
    check_ending(model, (".pt",), "a model file ends in")
    exported = model.with_suffix(".onnx") if "onnx" in request.exports else None
    paths = QuantizeOutputs(model, model.with_suffix(".report.json"), model.with_suffix(".png"), exported)
    check_outputs(paths.listed(), file.path, NEVER_REPLACED, may_replace=request.is_forced)
    return paths


def check_request(file: ModelFile, request: QuantizeRequest) -> None:
    """Raise UsageError for options that do not go together or mean nothing, or for a model that is int8 already."""
    if is_quantized(file.spec.transforms):
        raise UsageError(f"{file.path} is int8 already; quantize the float model that it was made from")
    given = {
        "--epochs": request.epochs is not None,
        "--lr": request.lr is not None,
        "--distill": request.is_distilled,
        "--keep": request.keep == "trained",
    }
    for name, is_given in given.items():
        if is_given and request.mode != "qat":
            raise UsageError(f"{name} belongs to --qat; {request.mode} quantization trains nothing")
    for name, value in (("--epochs", request.epochs), ("--lr", request.lr)):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UsageError(f"{name} {value:g}: expected a number greater than 0")
    if request.num_calibration is not None and request.mode == "dynamic":
        raise UsageError("--calib belongs to --static and --qat; dynamic quantization calibrates nothing")
    if request.images is not None and (request.mode != "static" or request.max_drop is not None or request.split):
        raise UsageError(
            "--data images:FOLDER has no labels: it calibrates --static and --sensitivity, and nothing is judged by it"
        )
    if request.max_drop is not None and not request.writes_model:
        raise UsageError("--max-drop makes a model; give --static with it")
    if request.exports and not request.writes_model:
        raise UsageError("--export needs a model to export; give --static with it")
    if request.mode != "static" and (request.max_drop is not None or request.rank_layers):
        option = "--sensitivity" if request.rank_layers else "--max-drop"
        raise UsageError(f"{option} belongs to --static")
    if request.exports:
        require_onnx()
    if request.max_drop is not None and not TRAITS[file.spec.info.task].judging_metric.is_percent:
        raise UsageError("--max-drop is in points of accuracy, mAP or mIoU, and this model makes numbers, not classes")
