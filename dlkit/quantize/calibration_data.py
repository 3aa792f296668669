"""The data of a quantization: samples to calibrate on, a split to choose by, and a split to judge the result on."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlkit.choices import SplitName
from dlkit.config import LoadedConfig
from dlkit.core.data import DataInfo, NoSplit, Split, build_eval_split, draw_calibration
from dlkit.core.evaluation import scoring_for
from dlkit.core.modelfile import ModelFile
from dlkit.core.scoring import Scoring
from dlkit.core.trained_config import own_config
from dlkit.core.training import pick_tuning_config
from dlkit.errors import DataError, UsageError
from dlkit.events import Emit, Note, ignore
from dlkit.quantize.request import QuantizeRequest

CPU = torch.device("cpu")
HELD_OUT = 0.5


@dataclass(frozen=True)
class ModelData:
    """The data that a model is changed with. `judged` is what the report is about; `loaded` the config of all."""

    loaded: LoadedConfig
    info: DataInfo
    judged: Split
    scoring: Scoring

    def draw(self, count: int, seed: int) -> list[Tensor]:
        """Calibration inputs; see `draw_calibration`."""
        return draw_calibration(self.loaded, self.info, count=count, seed=seed)

    def validation(self, emit: Emit = ignore) -> Split:
        """The split to choose by. It is another than the judged one wherever the data have one."""
        found = _find_split(self.loaded, self.info, "val")
        if found is not None and self.judged.name != "val":
            return found
        emit(Note("no validation split apart from the judged one: choices are made on training samples"))
        return build_eval_split(self.loaded, self.info, split="train", device=CPU)


def open_model_data(file: ModelFile, request: QuantizeRequest, emit: Emit = ignore) -> ModelData | None:
    """The data of a model file, or those that the request names; None where there are none and none are needed.

    Judged is the test split, else the validation split. Where nothing is held out, half of the samples are, by seed, so
    that no sample is both calibrated and judged on. Raises UsageError when data are needed and neither the file nor the
    request names any.
    """
    if request.images is not None:
        emit(
            Note(
                f"{request.images}: images without labels, so that nothing is judged but the agreement with the float network"
            )
        )
        return None
    is_needed = request.mode != "dynamic" or request.split is not None or request.data is not None
    if not is_needed and not file.spec.config:
        emit(Note("no data are known for this model, so it is not judged; name them with --data"))
        return None
    try:
        return _open(_pick_config(file, request), file.spec.info, request.split, emit)
    except (DataError, UsageError) as error:
        if is_needed:
            raise
        emit(Note(f"not judged: {error}"))
        return None


def _pick_config(file: ModelFile, request: QuantizeRequest) -> LoadedConfig:
    if request.mode == "qat":  # trains, so that loss and optimizer count too
        return pick_tuning_config(file, request.data)
    return request.data or own_config(file)


def _open(loaded: LoadedConfig, info: DataInfo, name: SplitName | None, emit: Emit) -> ModelData:
    judged = _find_split(loaded, info, name) if name else None
    if name and judged is None:
        raise DataError(f"{loaded.config.data.name} has no {name} split; leave --split out or name other data")
    judged = judged or _find_split(loaded, info, "test") or _find_split(loaded, info, "val")
    if judged is None:
        loaded = _hold_out(loaded)
        emit(Note("the data hold nothing out: half of the samples, by seed, are kept for judging"))
        judged = build_eval_split(loaded, info, split="test", device=CPU)
    return ModelData(loaded, info, judged, scoring_for(loaded, info, judged, CPU))


def _find_split(loaded: LoadedConfig, info: DataInfo, name: SplitName) -> Split | None:
    try:
        return build_eval_split(loaded, info, split=name, device=CPU)
    except NoSplit:
        return None


def _hold_out(loaded: LoadedConfig) -> LoadedConfig:
    section = loaded.config.data.model_copy(update={"test": HELD_OUT})
    return replace(loaded, config=loaded.config.model_copy(update={"data": section}))
