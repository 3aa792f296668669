"""What a model file and a training checkpoint must hold, said once and compared with a file before anything is built of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from torch import Tensor

from dlkit.core.metric_rows import unpack_rows
from dlkit.errors import FileRefused

MOST_SHOWN = 5

Count = Annotated[int, Field(ge=0, lt=2**63)]
Weights = dict[str, Tensor]
Plain = dict[str, Any]
Json = dict[str, JsonValue]


class _Form(BaseModel):
    """A mapping with these keys, of exactly these types; further ones, of a later dlkit, are let be."""

    model_config = ConfigDict(strict=True, extra="ignore", arbitrary_types_allowed=True)


class ProvenanceForm(_Form):
    """Where a network comes from, so far as it is shown or compared."""

    test: dict[str, float | None] | None = None
    metric: str | None = None
    value: float | None = None
    epoch: Count | None = None
    prune: Plain | None = None


class SpecForm(_Form):
    """`spec`: what a file says of its network. Architecture and input are read further by their own classes."""

    arch: Plain
    transforms: list[Plain]
    input: Plain
    data: Json
    config: Json
    provenance: ProvenanceForm


class ModelForm(_Form):
    """A model file whose packed weights are unpacked."""

    spec: SpecForm
    state_dict: Weights


class OptimizerForm(_Form):
    """State by the number of the parameter, and the settings of each group."""

    state: dict[int, Plain]
    param_groups: list[Plain]


class AveragedForm(_Form):
    """The moving average of the weights."""

    state_dict: Weights
    num_steps: Count


class SumsForm(_Form):
    """Sums of losses in the middle of an epoch."""

    sums: Tensor
    num_samples: Count


class BestForm(_Form):
    """What made best.pt the best."""

    metric: str
    mode: Literal["min", "max"]
    value: float | None
    epoch: Count | None
    step: Count | None
    weights: str | None


class StoppingForm(_Form):
    """Evaluations without improvement."""

    best: float | None
    num_bad: Count
    is_over: bool


class PositionForm(_Form):
    """Where training stands."""

    epoch: Count
    batch: Count
    step: Count
    samples: Count
    is_evaluated: bool


class RandomForm(_Form):
    """The state of every generator."""

    python: list[Any] = Field(min_length=3, max_length=3)
    numpy: list[Any] = Field(min_length=5, max_length=5)
    torch: Tensor
    cuda: list[Tensor]


class ProcessForm(_Form):
    """What differs between processes."""

    random: RandomForm
    meter: SumsForm
    statistics: list[list[Tensor]]


class DataSectionForm(_Form):
    """What is compared of the data, whatever else stands there."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: Json
    batch_size: Count


class LengthForm(_Form):
    """How long the run was to be."""

    epochs: Count
    max_steps: Count | None


class CurveForm(_Form):
    """Where the curve of its learning rate ends."""

    length: str | Count


class ConfigForm(_Form):
    """The config that a run was begun with."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: Json
    data: DataSectionForm
    train: LengthForm
    schedule: CurveForm


class MarkForm(_Form):
    """How much of a metrics file a checkpoint vouches for."""

    size: Count
    crc32: Count


def _check_rows(history: dict[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    unpack_rows(history)
    return history


class CheckpointForm(_Form):
    """Everything a run needs to go on."""

    spec: SpecForm
    config: ConfigForm
    state_dict: Weights
    state_dict_ema: AveragedForm | None
    optimizer: OptimizerForm
    learning_rates: Plain
    scaler: Plain
    meter: SumsForm
    best: BestForm
    early_stopping: StoppingForm | None
    position: PositionForm
    history: Annotated[dict[str, list[Tensor]], AfterValidator(_check_rows)]
    train_s: float
    num_skipped: Count
    random: RandomForm
    processes: list[ProcessForm]
    metrics_files: dict[str, MarkForm]
    data: dict[str, dict[str, str | int]]
    total_steps: Count
    teacher: str | None = None


def check_form(path: Path, value: Mapping[str, Any], form: type[BaseModel]) -> None:
    """Raise FileRefused, with the first keys that are missing or hold something else, where a file has another form."""
    try:
        form.model_validate(value)
    except ValidationError as error:
        found = [_problem(dict(problem)) for problem in error.errors(include_url=False)]
        more = [f"and {len(found) - MOST_SHOWN} more"] if len(found) > MOST_SHOWN else []
        raise FileRefused(path, f"damaged, or not written by dlkit: {'; '.join(found[:MOST_SHOWN] + more)}") from None


def _problem(problem: Mapping[str, Any]) -> str:
    key = ".".join(f"{part!s:.60}" for part in problem["loc"])
    if problem["type"] == "missing":
        return f"it has no {key}"
    return f"{key} {problem['msg'][:200].replace('Input should', 'should')}"
