"""Whole pictures for networks that say a class for each pixel: nothing is cut off, and what was scaled can be scaled back."""

from dataclasses import dataclass, replace

from torch import Tensor

from dlkit.config import LoadedConfig
from dlkit.core.data.caching import no_draws
from dlkit.core.data.contract import DataInfo
from dlkit.core.data.matching import fit_of
from dlkit.core.data.statistics import normalize_inputs
from dlkit.core.data.transforms import Fit, Pipeline, TransformStep, build_pipeline
from dlkit.errors import DataError

_IMAGES = "images"  # the one source of masks that brings pictures to a size without being asked


@dataclass(frozen=True)
class WholePicture:
    """How a picture becomes an input: the steps of evaluation in order, without those that cut about the centre."""

    info: DataInfo
    pipeline: Pipeline

    def __call__(self, picture: Tensor) -> Tensor:
        """Returns a decoded picture (C, H, W) scaled as evaluation scales it and normalized: float32 (C, h, w).

        Raises DataError at a transform that does more to its size.
        """
        for step in self.pipeline.steps:
            changed = Pipeline((step,)).run_sample(picture, no_draws())
            if changed.shape[-2:] != picture.shape[-2:] and not _scales(step):
                raise DataError(
                    f"eval transform {step.name} changes the size of pictures, so that no mask can be laid over them; take dlkit.load_model"
                )
            picture = changed
        return normalize_inputs(picture[None], self.info)[0]


def whole_picture(loaded: LoadedConfig | None, info: DataInfo, *, keeps_scale: bool = False) -> WholePicture:
    """Returns how evaluation under a config prepares pictures, of which it is to see all; with `keeps_scale` without scaling them.

    Without a config pictures are fitted as the model says.
    """
    fit = Fit((info.input_size[1], info.input_size[2]), info.fit)
    if loaded is None:
        steps: tuple[TransformStep, ...] = (fit.step(has_masks=False),)
    else:
        fits = None if _has_own_sizes(loaded, info) else fit_of(loaded, info)
        steps = build_pipeline(loaded, "eval_transforms", kind=info.kind, fit=fits).steps
    kept = (step for step in steps if not _cuts(step) and not (keeps_scale and _scales(step)))
    return WholePicture(info, Pipeline(tuple(map(_without_cut, kept))))


def _has_own_sizes(loaded: LoadedConfig, info: DataInfo) -> bool:
    """Whether evaluation takes pictures at the sizes of their files, as nothing says otherwise."""
    data = loaded.config.data
    is_asked = data.final_size != "auto" or data.fitting != "auto" or info.fit is not None
    return not is_asked and data.name.casefold() != _IMAGES


def _name_of(step: TransformStep) -> str:
    return type(step.single).__name__


def _scales(step: TransformStep) -> bool:
    return isinstance(step.single, Fit) or _name_of(step) == "Resize"


def _cuts(step: TransformStep) -> bool:
    return _name_of(step) == "CenterCrop"


def _without_cut(step: TransformStep) -> TransformStep:
    return replace(step.single, cuts=False).step(has_masks=False) if isinstance(step.single, Fit) else step
