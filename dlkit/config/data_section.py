"""The `data` section of a config."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, create_model, field_validator

from dlkit.config.section import Auto, Component, Fraction, PositiveInt, Section, Size, check_duration


class Normalization(Section):
    """Fixed statistics, one number per channel, for inputs scaled to 0..1."""

    mean: list[float] = Field(min_length=1, description="Mean per channel.")
    std: list[Annotated[float, Field(gt=0)]] = Field(min_length=1, description="Standard deviation per channel.")


class Sampling(Section):
    """How often training samples are drawn; one of both keys."""

    power: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="A class of n samples makes up a share as n**power; 0 is balanced, 0.5 the square root, 1 as it is.",
    )
    weights: str | None = Field(None, description="Column, or array, with the weight of each sample.")


if TYPE_CHECKING:

    class GrowingSize(Section):
        """See below."""

        to: int
else:
    # `from` is no name that Python takes for an attribute in a class body
    GrowingSize = create_model(
        "GrowingSize",
        __base__=Section,
        __doc__="Training images that grow from epoch to epoch.",
        **{
            "from": (PositiveInt, Field(description="Height and width in the first epoch.")),
            "to": (PositiveInt, Field(description="In the last epoch, in evaluation and of the model.")),
        },
    )


class Mixing(Section):
    """Which batches the batch transforms mix."""

    p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Chance of each batch to be mixed.")
    switch: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Chance of cutmix where both are listed; null is as often as mixup."
    )
    off_last_epochs: Annotated[int, Field(ge=0)] = Field(0, description="The last epochs train on unmixed batches.")


class Fitting(Section):
    """How pictures are brought to `image_size`: scaled to `resize_size`, then cut about the centre."""

    resize_size: Size = Field(
        description="What pictures are scaled to before image_size is cut out of their middle; a number is the shorter side."
    )
    interpolation: Literal["bilinear", "bicubic"] = Field("bilinear", description="Both with antialiasing.")
    crop_mode: Literal["center", "squash"] = Field(
        "center", description="center keeps the shape and covers resize_size; squash scales to exactly that."
    )


class HeldFold(Section):
    """One of several equal parts of the training split, which validates while the others train."""

    number: PositiveInt = Field(description="Which part, from 1.")
    of: Annotated[int, Field(ge=2)] = Field(description="How many parts there are.")


class Data(Component):
    """What to learn from, and how it reaches the model."""

    root: str | Auto = Field(
        "auto", description="Folder of the data set; auto is ./data, or where Debian's package put it."
    )
    download: bool = Field(False, description="Let torchvision fetch the data set into root.")
    val: Fraction | Literal["test", "none"] = Field(
        0.1,
        description="Share of the training split held out by seed; `test` validates on the test split, `none` does without.",
    )
    fold: HeldFold | None = Field(
        None,
        description="Cross-validation: {number: 1, of: 5} holds out the first of five equal parts in place of the share of val.",
    )
    test: Fraction | Literal["auto", "none"] = Field(
        "auto",
        description="auto takes the data set's own test split if it has one, else none; a fraction holds one out by seed.",
    )
    limit: PositiveInt | None = Field(None, description="Use only this many training samples, picked by seed.")
    batch_size: PositiveInt = Field(128, description="Samples per micro-batch.")
    eval_batch_size: PositiveInt | Auto = Field(
        "auto", description="Samples per evaluation batch; auto is 4 times batch_size, at most 512."
    )
    shuffle: bool = Field(True, description="Draw a new order from (seed, epoch) each epoch.")
    sampling: Literal["none", "balanced"] | Sampling = Field(
        "none",
        description="balanced draws all classes equally often; an epoch stays as long as it is, and depends on (seed, epoch).",
    )
    repeats: PositiveInt = Field(
        1,
        description="Copies of each training sample, each augmented on its own. An epoch stays as long as it is: 3 copies of a third of "
        "the samples, and 3 epochs hold all.",
    )
    drop_last: bool | Auto = Field("auto", description="auto drops a trailing batch of a single sample only.")
    num_workers: Annotated[int, Field(ge=0)] | Auto = Field(
        "auto", description="Loader processes; auto is 0 in memory, else the cores less one, at most 8."
    )
    pin_memory: bool | Auto = Field("auto", description="Page-locked batches; auto is on when training on CUDA.")
    persistent_workers: bool | Auto = Field(
        "auto", description="Keep loader processes between epochs; auto is on when there are any."
    )
    prefetch_factor: PositiveInt | None = Field(
        None, description="Batches that each loader process keeps ready; null is torch's 2."
    )
    timeout: str | Annotated[float, Field(gt=0)] | None = Field(
        "10m", description="The longest that reading one sample may take: 90s, 10m; null for no limit."
    )
    cache: Literal["auto", "memory", "disk", "none"] = Field(
        "auto",
        description="Keep decoded samples as uint8 tensors and augment whole batches; auto does when they fit and the transforms allow. "
        "disk decodes image files once into one file, for all epochs and later runs, and is auto otherwise.",
    )
    cache_dir: str | None = Field(
        None, description="Folder of what cache: disk decodes; null is dlkit/decoded in the user's cache."
    )
    scan: Literal["auto", "full", "quick", "off"] = Field(
        "auto",
        description="Look for broken image files before training: decode all, or read headers only; auto decodes up to 20,000 files.",
    )
    on_bad: Literal["stop", "skip"] = Field(
        "stop",
        description="A sample that cannot be read stops the run before it trains; skip leaves it out and lists it in the run folder.",
    )
    image_size: Size | GrowingSize | Auto = Field(
        "auto",
        description="Resize images to this height and width, or to sizes that grow; auto is the size of the model's published weights, "
        "else 224 for image folders, else as they are.",
    )
    fitting: Fitting | Auto = Field(
        "auto",
        description="How pictures get to image_size; auto is as the published weights of the model ask for, else scaled until they "
        "cover image_size.",
    )
    normalize: Literal["auto", "data", "none"] | Normalization = Field(
        "auto",
        description="data measures the training split; auto takes what the published weights of the model were trained with, else "
        "measures. The result is stored in the model file.",
    )
    standardize_target: bool | Auto = Field(
        "auto",
        description="Train regression on targets of mean 0 and deviation 1; predictions come in their own units. "
        "auto does for mse, l1, smooth l1 and huber losses.",
    )
    transforms: list[Component] = Field(
        [], description="Training transforms in order, by torchvision.transforms.v2 name."
    )
    eval_transforms: list[Component] = Field([], description="Transforms for evaluation, before normalization.")
    batch_transforms: list[Component] = Field([], description="Transforms of whole training batches: mixup, cutmix.")

    mixing: Mixing | None = Field(None, description="Which batches these mix; null mixes all.")

    _readable = field_validator("timeout")(check_duration)

    @property
    def final_size(self) -> int | list[int] | Auto:
        """`image_size` as evaluation has it: `auto`, one number, or height and width."""
        return self.image_size.to if isinstance(self.image_size, GrowingSize) else self.image_size
