"""The sections of a config that say how a run is judged, kept, logged and run; they do not change what is learned."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from dlkit.config.quantities import parse_duration_s
from dlkit.config.section import Auto, PositiveInt, Section


class Eval(Section):
    """When and how models are judged."""

    every: PositiveInt = Field(1, description="Epochs between validations; the last epoch is always validated.")
    tta: bool = Field(
        False, description="Also report the test split with the mean over the image and its mirror image."
    )
    test: bool = Field(True, description="Evaluate the test split once, at the end, with the best weights.")


class Checkpoint(Section):
    """What is kept on disk."""

    every_epochs: PositiveInt = Field(1, description="Epochs between writes of last.pt.")
    every_steps: PositiveInt | None = Field(None, description="Also write last.pt every so many optimizer steps.")
    metric: str | Auto = Field(
        "auto", description="Column of metrics.csv that decides best.pt; auto is val_accuracy, or val_loss."
    )
    mode: Literal["auto", "min", "max"] = Field("auto", description="Whether less or more is better.")


class Log(Section):
    """What is written about the run."""

    every: PositiveInt | Auto = Field(
        "auto", description="Optimizer steps between lines of metrics.jsonl; auto is 1, more beyond 10,000 steps."
    )
    tensorboard: bool = Field(True, description="Write TensorBoard files to tb/.")
    graph: bool = Field(True, description="Write the model graph to TensorBoard.")
    images: Annotated[int, Field(ge=0)] = Field(
        0, description="Training images, as the model sees them, to write to TensorBoard."
    )


class Runtime(Section):
    """The machine."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    threads: PositiveInt | Auto = Field("auto", description="CPU threads of torch; auto leaves torch's choice.")
    deterministic: bool = Field(False, description="Only deterministic kernels; slower on CUDA.")
    out: str = Field("runs", description="Folder that run folders are made in.")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="With several processes: ddp gives each the whole model, fsdp a part of all weights."
    )
    find_unused_parameters: bool = Field(
        False, description="ddp: allow parameters that a batch does not use, at the price of a search at every step."
    )
    timeout: str | Annotated[float, Field(gt=0)] = Field(
        "10m", description="How long processes wait for each other before the run is given up."
    )

    @field_validator("timeout")
    @classmethod
    def _readable(cls, value: str | float) -> str | float:
        parse_duration_s(value)
        return value
