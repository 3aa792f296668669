"""The config as typed objects: the only source of what a config may hold. The checks, the JSON Schema, `config init` and
docs/config.md are made from it.

A component (`Component` and its subclasses) has a `name`, the keys declared here, and its own options beside them. Those
are checked against the registry (without torch), and later against the real signature.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dlkit.config.data_section import Data
from dlkit.config.section import Auto, Component, PositiveInt, Section, check_duration
from dlkit.quantities import parse_length, parse_warmup
from dlkit.tasks import TaskName

MOST_THREADS = 1024  # torch ends the process where the system has no room for as many as are asked for


class Model(Component):
    """The network."""

    weights: str | None = Field(
        None,
        description="`DEFAULT` or the name of published weights of torchvision, `DEFAULT` of timm, or the path of a weights or model file.",
    )
    num_classes: PositiveInt | Auto = Field(
        "auto", description="Outputs; auto counts the classes (or target columns) of the data."
    )
    in_channels: PositiveInt | Auto = Field(
        "auto", description="Input channels (or features); auto reads them off the data."
    )
    layers: list[Any] | None = Field(None, description="For name `layers`: the list of layers, see docs/models.md.")


class Loss(Component):
    """What is minimized."""

    name: str = Field(
        "auto",
        min_length=1,
        description="cross_entropy, bce, mse, any torch.nn loss, or an import path; auto follows the task.",
    )
    class_weights: (
        Literal["balanced"] | list[Annotated[float, Field(ge=0)]] | dict[str, Annotated[float, Field(ge=0)]] | None
    ) = Field(
        None,
        description="Weights of classes for cross_entropy and focal, of labels' positives for bce and focal: a list, or `{cat: 2}` by "
        "name with 1 for the others; balanced is inverse class frequency with mean 1, of labels negatives per positive.",
    )


class ParameterGroup(Section):
    """Parameters whose names match, with settings of their own; the first match wins."""

    match: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="Glob, or list of globs, over parameter names: `fc.*`."
    )
    lr_mult: Annotated[float, Field(ge=0)] = Field(1.0, description="Factor on the learning rate.")
    weight_decay: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Weight decay of this group; null keeps the optimizer's."
    )
    freeze: bool = Field(False, description="Do not train these; their batch norms stay in evaluation mode.")


class OtherOptimizer(Component):
    """The optimizer for what is no matrix of a hidden layer. Options are torch's own."""

    name: str = Field("adamw", min_length=1, description="As for the optimizer itself.")
    lr: Annotated[float, Field(gt=0)] | Auto = Field("auto", description="Its own peak learning rate.")


class Optimizer(Component):
    """How weights are updated. Options are torch's own, for example momentum, betas, eps, weight_decay."""

    name: str = Field(
        "adamw", min_length=1, description="adamw, adam, sgd, rmsprop, any torch.optim class, or an import path."
    )
    lr: Annotated[float, Field(gt=0)] | Auto = Field(
        "auto",
        description="Peak learning rate; auto is 0.05 for sgd, what was measured best for adam and adamw on dlkit's own networks, "
        "else torch's default for the class.",
    )
    lr_scale: Literal["none", "linear", "sqrt"] = Field(
        "none", description="Multiply lr by the number of processes, or its square root, as their batches add up."
    )
    decay_norm_bias: bool = Field(False, description="Apply weight decay to norm layers and biases too.")
    groups: list[ParameterGroup] = Field([], description="Groups by parameter name, the first match wins.")
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Factor on the learning rate for each block further from the head."
    )
    others: OtherOptimizer | None = Field(
        None,
        description="Another optimizer for embeddings, the head, vectors and numbers; this one then has the matrices of hidden layers. "
        "Muon has adamw here unless set.",
    )


class Schedule(Component):
    """How the learning rate moves. Options are the curve's own, for example step_size, gamma, eta_min."""

    name: str = Field(
        "cosine", min_length=1, description="A dlkit curve, a torch.optim.lr_scheduler class, or an import path."
    )
    unit: Literal["auto", "step", "epoch"] = Field(
        "auto", description="What the curve counts; auto is epochs for step, multistep and exponential, else steps."
    )
    length: str | PositiveInt = Field(
        "auto",
        description="The curve ends here and its last rate is held: steps (500st) or epochs (2ep); auto is the end of the run.",
    )
    metric: str = Field(
        "val_loss",
        description="What plateau follows, a column of metrics.csv; its mode is max for accuracies and r2 unless given.",
    )
    warmup: str | Annotated[int, Field(ge=0)] = Field(
        "0st", description="Linear warm-up in front: a share (5%), steps (500st) or epochs (2ep)."
    )
    warmup_from: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.01, description="Warm-up begins at this factor of the learning rate."
    )

    @field_validator("warmup")
    @classmethod
    def _readable(cls, value: str | int) -> str | int:
        parse_warmup(value)
        return value

    @field_validator("length")
    @classmethod
    def _readable_length(cls, value: str | int) -> str | int:
        if value != "auto" and parse_length(value).amount <= 0:
            raise ValueError(f"expected a length above 0, got {value!r}")
        return value


class Clip(Section):
    """Gradient clipping, after unscaling and before the update."""

    norm: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Scale gradients so that their total norm is at most this."
    )
    norm_type: Annotated[float, Field(gt=0)] = Field(2.0, description="Which norm.")
    value: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Clamp each gradient element to plus or minus this."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.norm is None) == (self.value is None):
            raise ValueError("give exactly one of norm and value")
        return self


class EarlyStop(Section):
    """Stop when a metric no longer improves."""

    metric: str = Field("val_loss", description="A column of metrics.csv.")
    mode: Literal["auto", "min", "max"] = Field(
        "auto", description="auto is min for losses and errors, max for accuracies, map, f1 and r2."
    )
    patience: PositiveInt = Field(10, description="Evaluations without improvement that are tolerated.")
    min_delta: Annotated[float, Field(ge=0)] = Field(0.0, description="Smallest change that counts as improvement.")
    min_epochs: Annotated[int, Field(ge=0)] = Field(0, description="Never stop before this many epochs.")


class Segments(Section):
    """Checkpoint a sequential model in segments; memory falls until about the square root of the number of layers."""

    segments: PositiveInt = Field(description="Number of segments, as in torch.utils.checkpoint.checkpoint_sequential.")


class Distill(Section):
    """Knowledge distillation: a trained network teaches this one by its outputs."""

    teacher: Annotated[str, Field(min_length=1)] = Field(description="Model file of the teacher.")
    temperature: Annotated[float, Field(gt=0)] = Field(
        4.0, description="Softens the probabilities of both; regression has none to soften."
    )
    weight: Annotated[float, Field(gt=0, le=1)] = Field(
        0.7, description="Share of the teacher in the loss; the task's own loss has the rest."
    )
    model: str | None = Field(None, description="The class of a teacher of your own: pkg.mod:Net or ./net.py:Net.")


class Train(Section):
    """The loop."""

    epochs: PositiveInt = Field(10, description="Passes over the training split.")
    max_steps: PositiveInt | None = Field(
        None, description="Stop after this many optimizer steps; the schedule ends there too."
    )
    accumulate: PositiveInt = Field(1, description="Micro-batches per optimizer step.")
    clip: Clip | None = Field(None, description="Gradient clipping.")
    amp: Literal["auto", "off", "bf16", "fp16"] = Field(
        "auto", description="Mixed precision; auto is bf16 (else fp16) on CUDA and off on CPUs."
    )
    compile: bool | str = Field(False, description="torch.compile: true, or one of its modes.")
    channels_last: bool | Auto = Field(
        "auto",
        description="Memory layout of image batches; auto is on for convolutions on CPUs, and on CUDA in mixed precision, but not "
        "for strided 1x1 convolutions of up to 6 channels, which end the process on some CPUs.",
    )
    sync_bn: bool = Field(
        False, description="Batch norm over the batches of all processes, where each would take its own."
    )
    gradient_checkpointing: bool | list[str] | Segments = Field(
        False,
        description="Recompute activations in the backward pass: true, a list of globs over module names, or segments.",
    )
    distill: Distill | None = Field(None, description="Knowledge distillation from a trained network.")
    early_stop: EarlyStop | None = Field(None, description="Stop when a metric no longer improves.")
    max_time: str | Annotated[float, Field(gt=0)] | None = Field(
        None, description="Stop after this long, saving: 90s, 45m, 1h30m."
    )
    on_nan: Literal["stop", "skip"] = Field(
        "stop", description="A loss that is not finite stops the run, or skips the update (at most 10 in a row)."
    )

    _readable = field_validator("max_time")(check_duration)


class Ema(Section):
    """An exponential moving average of the weights, evaluated and saved beside the raw ones."""

    decay: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.999, description="Share of the old average that stays at each update."
    )
    warmup: bool = Field(True, description="Begin with a smaller decay: min(decay, 1 - (1 + t) ** (-2/3)).")
    every: PositiveInt = Field(1, description="Optimizer steps between updates.")


class Eval(Section):
    """When and how models are judged."""

    every: PositiveInt = Field(1, description="Epochs between validations; the last epoch is always validated.")
    tta: bool = Field(
        False,
        description="Also report the test split with the mean over the image and its mirror image, of maps over three scales too.",
    )
    test: bool = Field(True, description="Evaluate the test split once, at the end, with the best weights.")


class Checkpoint(Section):
    """What is kept on disk."""

    every_epochs: PositiveInt = Field(1, description="Epochs between writes of last.pt.")
    every_steps: PositiveInt | None = Field(None, description="Also write last.pt every so many optimizer steps.")
    keep: PositiveInt = Field(1, description="How many checkpoints stay: last.pt and those before it, as step-N.pt.")
    average: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="Export the mean of so many last checkpoints where it is better on the validation split than the best epoch.",
    )
    metric: str | Auto = Field(
        "auto",
        description="Column of metrics.csv that decides best.pt; auto is val_accuracy, val_map, val_miou or val_loss by the task.",
    )
    mode: Literal["auto", "min", "max"] = Field("auto", description="Whether less or more is better.")


class OwnTracker(Component):
    """A function of your own that follows a run. Options are its own."""

    name: str = Field(min_length=1, description="package.module:attr or ./file.py:attr.")


class Log(Section):
    """What is written about the run."""

    every: PositiveInt | Auto = Field(
        "auto", description="Optimizer steps between lines of metrics.jsonl; auto is 1, more beyond 10,000 steps."
    )
    tensorboard: bool = Field(True, description="Write TensorBoard files to tb/.")
    graph: bool = Field(True, description="Write the model graph to TensorBoard.")
    images: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Training images, as the model sees them, to write to TensorBoard; with masks, validation's and predictions too.",
    )
    mlflow: str | None = Field(
        None, min_length=1, description="Address of an MLflow server that follows the run: http://127.0.0.1:5000."
    )
    tracker: OwnTracker | None = Field(
        None, description="A function of your own that follows the run: package.module:attr or ./file.py:attr."
    )


class Runtime(Section):
    """The machine."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | Auto = Field(
        "auto", description="CPU threads of torch; auto leaves torch's choice."
    )
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

    _readable = field_validator("timeout")(check_duration)


class Config(Section):
    """A whole run."""

    name: str | Auto = Field(
        "auto", pattern=r"^[\w.-]+$", description="Name of the run folder; auto is the config file's name."
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="Seed of everything random.")
    task: Auto | TaskName = Field(
        "auto",
        description="classification is one class per sample, multilabel any number of labels, regression numbers, segmentation a class "
        "per pixel; auto follows the data and the loss.",
    )
    data: Data = Field(description="What to learn from.")
    model: Model = Field(description="The network.")
    loss: Loss = Field(Loss(), description="What is minimized.")
    optimizer: Optimizer = Field(Optimizer(), description="How weights are updated.")
    schedule: Schedule = Field(Schedule(), description="How the learning rate moves.")
    train: Train = Field(Train(), description="The loop.")
    ema: Ema | None = Field(None, description="Moving average of the weights.")
    eval: Eval = Field(Eval(), description="When and how models are judged.")
    checkpoint: Checkpoint = Field(Checkpoint(), description="What is kept on disk.")
    log: Log = Field(Log(), description="What is written about the run.")
    runtime: Runtime = Field(Runtime(), description="The machine.")
