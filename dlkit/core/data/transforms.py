"""From the config's lists of transforms to a pipeline that runs on batches or single samples, with the same result."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dlkit.config import Component, LoadedConfig, is_done_anyway, said_otherwise
from dlkit.core.components import at_component, check_options, is_import_path, resolve
from dlkit.core.data.augment import (
    Batched,
    JointBatched,
    JointTransform,
    batched_version,
    joint_batched,
    joint_options,
    plain_version,
)
from dlkit.core.data.contract import ImageFit, Kind
from dlkit.core.data.counter_rng import Draws
from dlkit.core.data.images import fit_image, fit_masks
from dlkit.core.data.masks import part_mask
from dlkit.core.random_state import seeded_generators
from dlkit.errors import DataError, first_line
from dlkit.registry import find_entry
from dlkit.shapes import size_text

# These bring any image to a size of their own, so that an image size in front of them would only lose pixels.
SIZING = ("Resize", "RandomResizedCrop", "ScaleJitter", "RandomShortestSize", "RandomResize")
ON_BATCHES = {"mixup", "cutmix"}
PICTURES_ALONE = {"AugMix", "AutoAugment", "RandAugment", "TrivialAugmentWide"}


@dataclass(frozen=True)
class TransformStep:
    """One transform: on whole batches where that is possible, else on one sample at a time.

    `place` is its number in the config's list, None for what dlkit put there.
    """

    name: str
    batched: Batched | JointBatched | None
    single: Callable[[Tensor], Tensor]
    place: int | None = None


@dataclass(frozen=True)
class Fit:
    """`data.image_size` as a transform of images (..., C, H, W); unless it `cuts`, they may stay longer on one side."""

    size: tuple[int, int]
    how: ImageFit | None = None
    cuts: bool = True

    def __call__(self, images: Tensor) -> Tensor:
        """Returns the images at the size."""
        return fit_image(images, self.size, self.how, cuts=self.cuts)

    def of_masks(self, masks: Tensor) -> Tensor:
        """Returns masks (N, 1, H, W) at the size."""
        return fit_masks(masks[:, 0], self.size, self.how)[:, None]

    def step(self, *, has_masks: bool) -> TransformStep:
        """Returns it as a step of a pipeline."""
        pictures = Batched(self, None)
        return TransformStep(
            "image_size", JointBatched(pictures, Batched(self.of_masks, None)) if has_masks else pictures, self
        )


@dataclass(frozen=True)
class Pipeline:
    """Transforms in order. A sample's result depends on its draws, not on the batch it is in."""

    steps: tuple[TransformStep, ...]

    @property
    def unbatched(self) -> tuple[TransformStep, ...]:
        """The transforms that work on single samples only."""
        return tuple(step for step in self.steps if step.batched is None)

    @property
    def is_random(self) -> bool:
        """Whether any transform may be: one that works on single samples could be anything."""
        return bool(self.split_fixed()[1].steps)

    def split_fixed(self) -> tuple["Pipeline", "Pipeline"]:
        """Returns the leading transforms without random choice, which can be done once, and the rest."""
        count = 0
        while count < len(self.steps) and (batched := self.steps[count].batched) and not batched.is_random:
            count += 1
        return Pipeline(self.steps[:count]), Pipeline(self.steps[count:])

    def run_batch(self, images: Tensor, draws: Draws, *, first: int = 0) -> Tensor:
        """Transform a batch (N, ...). `first` counts the steps that were done before."""
        for number, step in enumerate(self.steps, first):
            assert step.batched is not None
            images = step.batched(images, draws.stage(number))
        return images

    @property
    def image_fit(self) -> ImageFit | None:
        """How pictures are brought to the size, where that is said and no transform does it."""
        return next((step.single.how for step in self.steps if isinstance(step.single, Fit)), None)

    def run_sample(self, sample: Tensor, draws: Draws) -> Tensor:
        """Transform one sample; `draws` are those of this sample alone."""
        for number, step in enumerate(self.steps):
            if step.batched is not None:
                sample = step.batched(sample[None], draws.stage(number))[0]
            else:
                sample = step.single(sample)
                if not isinstance(sample, Tensor):
                    raise DataError(f"transform {step.name} returned {type(sample).__name__}; a tensor is needed")
        return sample


def build_pipeline(loaded: LoadedConfig, key: str, *, kind: Kind, fit: Fit | None, has_masks: bool = False) -> Pipeline:
    """Returns the pipeline of `data.transforms` or `data.eval_transforms`, with the fitting to `image_size` in front.

    With masks it takes pictures joined with these. Resizing is left out where the first transform of the list brings images to a size
    itself. Raises ConfigError for transforms of images where the data are of another kind.
    """
    components: Sequence[Component] = getattr(loaded.config.data, key)
    for number, component in enumerate(components):
        if kind != "image" and not is_import_path(component.name):
            raise loaded.error(("data", key, number, "name"), f"{component.name} works on images; the data are {kind}")
    steps = [
        build_step(loaded, (key, number), component, has_masks=has_masks)
        for number, component in enumerate(components)
        if not is_done_anyway(component.name)
    ]
    if fit is not None and not (steps and _is_sizing(steps[0].single)):
        steps.insert(0, fit.step(has_masks=has_masks))
    return Pipeline(tuple(steps))


def notes_on_transforms(loaded: LoadedConfig) -> list[str]:
    """Returns sentences about transforms that were moved, or left out because they are what happens anyway."""
    data = loaded.config.data
    names = dict.fromkeys(item.name for item in (*data.transforms, *data.eval_transforms) if is_done_anyway(item.name))
    what = f"left out: {', '.join(names)}. Transforms get tensors, and dlkit scales them to 0..1 behind the last one"
    return [*loaded.notes, *([what] if names else [])]


def _is_sizing(transform: object) -> bool:
    """Whether a transform is one of torchvision's SIZING, or a class on top of one."""
    transform = transform.transform if isinstance(transform, JointTransform) else transform
    return any(
        kind.__name__ in SIZING and kind.__module__.startswith("torchvision.") for kind in type(transform).__mro__
    )


def build_step(
    loaded: LoadedConfig, where: tuple[str, int], component: Component, *, has_masks: bool = False
) -> TransformStep:
    """Returns one transform: a class is built with the options, a function is called with the image, its mask if it has one, and the
    options.

    Raises ConfigError at its place in the file.
    """
    place = ("data", *where)
    if words := _refusal(component.name, has_masks=has_masks):
        raise loaded.error((*place, "name"), words)
    if plain := plain_version(_name_in_torchvision(component.name), component.options):
        return TransformStep(component.name, joint_batched(plain) if has_masks else plain, plain.transform, where[1])
    with at_component(loaded, *place):
        builder = resolve("transforms", component.name)
        is_function = inspect.isfunction(builder)
        image = list(inspect.signature(builder).parameters)[: 1 + has_masks] if is_function else []
        check_options(builder, component.options, injected=image)
    options = {option: _plain(option, value) for option, value in component.options.items()}
    batched = None
    try:
        transform = partial(builder, **options) if is_function else builder(**options)
        batched = batched_version(transform)
        if has_masks and not (batched and batched.is_random) and not is_function:
            transform = builder(**joint_options(builder, options))
    except Exception as error:
        raise loaded.error(place, f"{component.name}: {error}") from None
    if not callable(transform):
        made = type(transform).__name__
        message = f"{component.name} makes a {made}, which cannot be called with an image"
        raise loaded.error((*place, "name"), message)
    return (
        _joined(component.name, batched, transform, where[1])
        if has_masks
        else TransformStep(component.name, batched, transform, where[1])
    )


def _refusal(name: str, *, has_masks: bool) -> str | None:
    """Why a transform cannot stand in the list, and what can, in a sentence; None for one that can."""
    if name.casefold() in ON_BATCHES:
        return "it works on batches: put it under data.batch_transforms"
    if has_masks and _name_in_torchvision(name) in PICTURES_ALONE:
        return f"{name} moves pictures without their masks; flips, RandomAffine and ColorJitter are for both"
    return said_otherwise(name)


def _joined(name: str, batched: Batched | None, transform: Callable[..., Any], place: int) -> TransformStep:
    """A step for pictures with masks: draws of ours move both alike, all else is called with both."""
    if batched is not None and batched.is_random:
        return TransformStep(name, joint_batched(batched), transform, place)
    single = JointTransform(name, transform)
    return TransformStep(name, Batched(single, None) if batched else None, single, place)


def _name_in_torchvision(name: str) -> str:
    entry = find_entry("transforms", name)
    target = name if is_import_path(name) else entry.target if entry else ""
    return target.removeprefix("torchvision.transforms.v2:")


def _plain(option: str, value: Any) -> Any:
    # older releases of torchvision take no text for it
    if option != "interpolation" or not isinstance(value, str):
        return value
    from torchvision.transforms import InterpolationMode  # takes two seconds to import

    return InterpolationMode(value)


def try_pipeline(
    loaded: LoadedConfig, key: str, pipeline: Pipeline, *, sample: Tensor, has_mask: bool = False
) -> Tensor:
    """Returns one sample through a pipeline, without its mask. Raises ConfigError at the transform that fails on it."""
    draws = Draws(0, 0, torch.zeros(1, dtype=torch.int64))
    for step in pipeline.steps:
        try:
            with seeded_generators(0):
                sample = Pipeline((step,)).run_sample(sample, draws)
        except Exception as error:
            place = ("data", key) if step.place is None else ("data", key, step.place)
            shape = size_text(_picture(sample, has_mask=has_mask).shape)
            raise loaded.error(
                place, f"{step.name} fails on the first sample ({shape}): {first_line(error)}"
            ) from error
    return _picture(sample, has_mask=has_mask)


def _picture(sample: Tensor, *, has_mask: bool) -> Tensor:
    return part_mask(sample)[0] if has_mask else sample
