"""What a user asks of an evaluation, in plain values, and the files that it will write."""

from dataclasses import dataclass
from pathlib import Path

from dlkit.choices import SplitName
from dlkit.config import LoadedConfig
from dlkit.core.evaluation.maps import pick_overlap
from dlkit.core.modelfile import ModelFile
from dlkit.core.opening import is_from_elsewhere
from dlkit.errors import UsageError
from dlkit.files import PICTURES, check_ending, check_output
from dlkit.tasks import TRAITS


@dataclass(frozen=True)
class EvalRequest:
    """`data` replaces what the model was trained on, and without a `split` it is the test split, or what there is.

    `model` names the class of a user's own network again. `confusion`, `reliability` and `worst`, which shows `num_worst` samples, are
    pictures. With `uses_windows` maps are scored over whole pictures at their own sizes, under windows of the network's size of which
    two neighbours share the `overlap`. With `fits_temperature`, one is fitted to the validation split, used, and kept in `output`, or
    in the model file itself if that `is_forced`, which replaces all other files too.
    """

    data: LoadedConfig | None = None
    split: SplitName | None = None
    use_tta: bool = False
    uses_windows: bool = False
    overlap: float | None = None
    confusion: Path | None = None
    reliability: Path | None = None
    worst: Path | None = None
    num_worst: int = 25
    fits_temperature: bool = False
    output: Path | None = None
    is_forced: bool = False
    model: str | None = None
    device: str = "auto"

    @property
    def pictures(self) -> list[Path]:
        """Those that are asked for."""
        return [path for path in (self.confusion, self.reliability, self.worst) if path is not None]


def check_outputs(path: Path, request: EvalRequest) -> None:
    """Raise UsageError or OutputError where what is asked for cannot be written; `path` is that of the model file."""
    for picture in request.pictures:
        check_ending(picture, PICTURES)
        check_output(picture, may_replace=request.is_forced)
    if not request.fits_temperature:
        if request.output is not None:
            raise UsageError("-o is for --fit-temperature, which alone writes a model file")
        return
    if request.output is None and not request.is_forced:
        raise UsageError(f"--fit-temperature: name the new file with -o, or replace {path} with --force")
    check_output(request.output or path, may_replace=request.is_forced)


def check_request(file: ModelFile, request: EvalRequest) -> None:
    """Raise UsageError where the model has not what is asked of it."""
    info = file.spec.info
    if request.confusion and info.task not in ("classification", "segmentation"):
        raise UsageError("--confusion: only a model of classes has a confusion matrix")
    if request.reliability and info.task in ("regression", "segmentation"):
        raise UsageError("--reliability: only a model of classes or labels has confidences")
    if request.worst and (info.kind != "image" or (info.task == "classification" and info.num_outputs < 2)):
        raise UsageError(f"--worst: {file.path} is no model of images")
    _check_windows(file, request)
    if not request.fits_temperature:
        return
    if is_from_elsewhere(file):
        raise UsageError(f"--fit-temperature: {file.path} is no model file; make one of it with `dlkit convert`")
    if info.task == "multilabel":
        raise UsageError(
            f"--fit-temperature: {file.path} is a model of labels; one number for all labels cannot mend what is off in each, and what "
            "is found is decided by a threshold for each"
        )
    if info.task != "classification" or info.num_outputs < 2:
        raise UsageError(f"--fit-temperature: {file.path} is no model of classes")


def _check_windows(file: ModelFile, request: EvalRequest) -> None:
    if not request.uses_windows:
        if request.overlap is not None:
            raise UsageError("--overlap is that of windows: add --sliding-window")
        return
    if not TRAITS[file.spec.info.task].has_maps:
        raise UsageError(f"--sliding-window: {file.path} says no class for each pixel")
    others = {"--tta": request.use_tta, "--worst": request.worst, "--fit-temperature": request.fits_temperature}
    if other := next((name for name, is_given in others.items() if is_given), None):
        raise UsageError(f"{other} does not go with --sliding-window; leave one of them out")
    pick_overlap(request.overlap)
