"""Anybody's dataset, an object with `__len__` and `__getitem__` that returns (input, target), as samples."""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dlkit.core.data.contract import Kind
from dlkit.core.data.counter_rng import Stream, hash_key
from dlkit.core.data.images import channels_first, image_to_tensor, mode_of
from dlkit.core.data.mask_files import MaskCode, mask_numbers
from dlkit.core.data.masks import join_mask
from dlkit.core.data.samples import renumber
from dlkit.core.data.time_limit import time_limit
from dlkit.core.out_of_memory import is_out_of_memory, out_of_memory_at
from dlkit.core.random_state import seeded_generators
from dlkit.errors import DataError, DlkitError
from dlkit.shapes import size_text


@dataclass(frozen=True)
class ItemSamples:
    """Samples of a dataset object. What `__getitem__` returns becomes tensors; see `to_input` and `to_target`.

    The first, the middle and the last sample are looked at for several reasons, and kept so that each is read once. With `skips_bad`
    a sample that cannot be read costs nobody the others: its target is that of another, and reading it raises as before.
    """

    dataset: Any
    title: str
    is_random: bool = True
    is_slow: bool = False
    table: Tensor | None = None
    timeout_s: float | None = None
    skips_bad: bool = False
    _looks: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _bad: dict[int, DataError] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        """Read one sample. Raises DataError, naming the sample and what was got."""
        if index in self._bad:
            raise self._bad[index]
        name = self.name_of(index)
        try:
            item = self.dataset[index]
        except DlkitError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory_at(name, error) from error
            raise DataError(f"{name}: reading it raised {type(error).__name__}: {error}") from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            count = f" of {len(item)}" if isinstance(item, tuple | list) else ""
            raise DataError(f"{name}: __getitem__ must give (input, target), got {type(item).__name__}{count}")
        target = to_target(item[1], name)
        return to_input(item[0], name), target if self.table is None else renumber(target, self.table)

    def look(self, index: int) -> tuple[Tensor, Tensor]:
        """Read one sample before training, with global generators seeded by its index where reading is random."""
        if index not in self._looks:
            seeded = seeded_generators(hash_key(0, Stream.SAMPLE, 0, index)) if self.is_random else nullcontext()
            with seeded, time_limit(self.timeout_s, self.name_of, index):
                found = self.load(index)
            if index not in self.probes:
                return found
            self._looks[index] = found
        value, target = self._looks[index]
        return value.clone(), target  # a transform may work in place

    def try_look(self, index: int) -> tuple[Tensor, Tensor] | None:
        """As `look`, but with `skips_bad` None for a sample that cannot be read, which stays so."""
        try:
            return self.look(index)
        except DataError as error:
            if not self.skips_bad:
                raise
            self._bad[index] = error
            return None

    def first(self) -> tuple[Tensor, Tensor]:
        """The first input that can be read, and its target. Raises DataError where none can."""
        found = next((look for index in range(len(self)) if (look := self.try_look(index))), None)
        if found is None:
            raise self._none_is_good()
        return found

    def _none_is_good(self) -> DataError:
        return DataError(f"none of the {len(self)} samples of {self.title} can be read. {self._bad[0]}")

    @property
    def probes(self) -> tuple[int, ...]:
        """The samples that stand for all where a dataset is compared with its own arrays."""
        return tuple(sorted({0, len(self) // 2, len(self) - 1}))

    def name_of(self, index: int) -> str:
        """Returns the class and the number of the sample."""
        return f"{self.title}[{index}]"

    @cached_property
    def targets(self) -> Tensor:
        """Targets of all samples: the dataset's own `targets` or `labels` if they fit, else by one pass over it."""
        for name in ("targets", "labels", "_labels"):
            found = _as_targets(getattr(self.dataset, name, None), len(self))
            if found is not None and self.table is not None:
                found = renumber(found, self.table)
            if found is not None and self._agrees(found):
                return found
        looks = [self.try_look(index) for index in range(len(self))]
        some = next((look[1] for look in looks if look), None)
        if some is None:
            raise self._none_is_good()
        return stack_targets([look[1] if look else some for look in looks], self)

    def renumbered(self, table: Tensor) -> "ItemSamples":
        """Returns the same samples with other numbers of classes; see `renumber`."""
        return replace(self, table=table)

    def _agrees(self, targets: Tensor) -> bool:
        looks = ((index, self.try_look(index)) for index in self.probes)
        return all(look is None or torch.equal(targets[index], look[1]) for index, look in looks)


def stack_targets(targets: list[Tensor], samples: ItemSamples) -> Tensor:
    """Returns targets as one tensor. Raises DataError, naming the first sample that differs in kind from sample 0."""
    for index, target in enumerate(targets):
        if (target.shape, target.dtype) != (targets[0].shape, targets[0].dtype):
            raise DataError(
                f"{samples.name_of(index)}: target is {target.dtype} of shape {tuple(target.shape)}, "
                f"that of sample 0 is {targets[0].dtype} of shape {tuple(targets[0].shape)}"
            )
    return torch.stack(targets)


def _as_targets(values: Any, size: int) -> Tensor | None:
    if not isinstance(values, list | tuple | Tensor | np.ndarray) or len(values) != size:
        return None
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return None
    if tensor.is_floating_point():
        return tensor.float()
    if tensor.ndim == 1:
        return tensor.long()
    return tensor.to(torch.uint8) if tensor.ndim == 2 and _is_multi_hot(tensor) else None


def _is_multi_hot(tensor: Tensor) -> bool:
    return bool(((tensor == 0) | (tensor == 1)).all())


def to_input(value: Any, name: str) -> Tensor:
    """Returns raw input of a sample: uint8 CHW from Pillow images, byte arrays (HW or HWC) and byte tensors (HW or CHW); float
    tensors and arrays of one (F), two (TF) or three (CHW) dimensions as they are.
    """
    if isinstance(value, Image.Image):
        return image_to_tensor(value, mode=mode_of(value))
    if isinstance(value, np.ndarray):
        # a copy, since torch warns of arrays that cannot be written to
        value = np.array(value)
        if value.dtype.kind not in "biuf":
            raise DataError(f"{name}: the input must be an array of numbers, got dtype {value.dtype}")
        value = torch.from_numpy(value)
        if value.dtype == torch.uint8 and value.ndim in (2, 3):
            value = channels_first(value).contiguous()
    if not isinstance(value, Tensor):
        raise DataError(f"{name}: the input must be a tensor, an array or a Pillow image, got {type(value).__name__}")
    value = value.as_subclass(Tensor).detach()
    if value.dtype == torch.uint8 and value.ndim == 2:
        value = value[None]
    if not 1 <= value.ndim <= 3:
        raise DataError(
            f"{name}: the input must have 1 (features), 2 (sequence) or 3 (image) dimensions, "
            f"got shape {tuple(value.shape)}"
        )
    if value.is_complex():
        raise DataError(f"{name}: complex inputs are not supported")
    is_byte_image = value.dtype == torch.uint8 and value.ndim == 3
    tensor: Tensor = value if is_byte_image else value.float()
    return tensor


def kind_of(value: Tensor) -> Kind:
    """Returns the kind of a raw input, by its number of dimensions."""
    kinds: tuple[Kind, ...] = ("features", "sequence", "image")
    return kinds[value.ndim - 1]


def _as_mask(tensor: Tensor) -> Tensor | None:
    """Returns whole numbers (H, W) or (1, H, W) as a mask; None for other shapes."""
    if tensor.ndim == 2:
        return tensor.long()
    return tensor[0].long() if tensor.ndim == 3 and len(tensor) == 1 else None


def to_target(value: Any, name: str) -> Tensor:
    """Target of a sample: int64 scalar for a whole number, uint8 (L,) for several of 0 and 1, float32 (num_outputs,) for floats, int64 (H,
    W) for a mask.
    """
    if isinstance(value, Image.Image):
        value = mask_numbers(value, name)
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"{name}: the target must be a number or numbers, got {type(value).__name__}") from None
    tensor = tensor.as_subclass(Tensor)
    if not tensor.is_floating_point() and not tensor.is_complex() and (mask := _as_mask(tensor)) is not None:
        return mask
    is_vector = tensor.ndim == 1 and not tensor.is_floating_point() and len(tensor) != 1
    if tensor.is_complex() or tensor.ndim > 1 or (is_vector and not (len(tensor) and _is_multi_hot(tensor))):
        got = f"{tensor.tolist()}" if is_vector and len(tensor) < 20 else f"shape {tuple(tensor.shape)}"
        raise DataError(
            f"{name}: the target must be one whole number (a class), 0 or 1 for each of several labels, a float or a vector of "
            f"floats, or a mask of whole numbers (H, W); got {got}"
        )
    if tensor.is_floating_point():
        return tensor.float().reshape(-1)
    return tensor.to(torch.uint8) if is_vector else tensor.long().reshape(())


@dataclass(frozen=True)
class MaskedItems:
    """Samples of a dataset object whose targets are masks, each joined with its picture (data/masks.py)."""

    items: ItemSamples
    code: MaskCode

    @property
    def is_random(self) -> bool:
        """Whether reading a sample may draw from the global random generators."""
        return self.items.is_random

    @property
    def is_slow(self) -> bool:
        """Whether reading a sample decodes a file."""
        return self.items.is_slow

    @property
    def targets(self) -> Tensor:
        """Zeros: the targets are the masks."""
        return torch.zeros(len(self), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.items)

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        """Read one picture with its mask. Raises DataError where the two do not fit."""
        return self._joined(*self.items.load(index), index)

    def look(self, index: int) -> tuple[Tensor, Tensor]:
        """As `load`, before training."""
        return self._joined(*self.items.look(index), index)

    def _joined(self, picture: Tensor, mask: Tensor, index: int) -> tuple[Tensor, Tensor]:
        name = self.name_of(index)
        if mask.ndim != 2:
            raise DataError(f"{name}: the target is a number, that of sample 0 a mask")
        if picture.ndim != 3 or picture.shape[1:] != mask.shape:
            raise DataError(f"{name}: the mask is {size_text(mask.shape)}, its picture {size_text(picture.shape)}")
        return join_mask(picture, self.code.decode(mask, name)), torch.zeros((), dtype=torch.int64)

    def name_of(self, index: int) -> str:
        """Returns the class and the number of the sample."""
        return self.items.name_of(index)

    def renumbered(self, table: Tensor) -> "MaskedItems":
        """Returns the same samples with other numbers of classes; see `renumber`."""
        return replace(self, code=self.code.renumbered(table))
