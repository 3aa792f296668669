"""Which kernels are here, and which ones compute a layer."""

import platform

from dlkit.errors import UsageError
from dlkit.quantize.int8.kernels.fbgemm import FBGEMM
from dlkit.quantize.int8.kernels.onednn import OnednnKernels
from dlkit.quantize.int8.kernels.pixels import is_for_pixels
from dlkit.quantize.int8.kernels.plain import PlainKernels
from dlkit.quantize.int8.kernels.protocol import Kernels
from dlkit.quantize.int8.kernels.qnnpack import QNNPACK
from dlkit.quantize.int8.kernels.reference import ReferenceKernels
from dlkit.quantize.int8.kernels.saturation import lost_kinds, saturates
from dlkit.quantize.int8.layer import Int8Layer
from dlkit.quantize.int8.products import Int8DynamicLinear

ADAPTERS: tuple[Kernels, ...] = (OnednnKernels(), FBGEMM, QNNPACK, PlainKernels(), ReferenceKernels())
AUTO = ("auto", "x86")  # x86 is what a recipe calls its backend
KERNEL_NAMES = tuple(kernels.name for kernels in ADAPTERS)


def is_arm() -> bool:
    """Whether this is an ARM CPU."""
    return platform.machine().lower() in {"aarch64", "arm64", "armv7l", "armv8l"}


def available_kernels() -> tuple[Kernels, ...]:
    """Those that run here."""
    return tuple(kernels for kernels in ADAPTERS if kernels.is_available())


def runnable_backends() -> tuple[str, ...]:
    """Names that recipes may have and that mean kernels which are here."""
    return (*AUTO, *(kernels.name for kernels in available_kernels()))


def find_kernels(name: str) -> Kernels:
    """The kernels of that name. Raises UsageError with a sentence where there are none."""
    found = next((kernels for kernels in ADAPTERS if kernels.name == name), None)
    if found is None:
        raise UsageError(f"no kernels are called {name!r}: take one of {', '.join(KERNEL_NAMES)}, or auto")
    if not found.is_available():
        here = ", ".join(kernels.name for kernels in available_kernels())
        raise UsageError(f"{name} does not run here: {found.missing}. These do: {here}")
    return found


def pick_kernels(layer: Int8Layer, name: str = "auto") -> Kernels:
    """The kernels that compute a layer: those of that name if they can, else the fastest that can and lose no sums of it.

    Where all fast ones cut off large sums of weights like these, they are taken all the same: exact ones are far slower.
    """
    if name not in AUTO and (named := find_kernels(name)).supports(layer):
        return named
    able = [kernels for kernels in _ranked(layer) if kernels.supports(layer)]
    if is_for_pixels(layer):
        return next(kernels for kernels in able if kernels.name == "plain")
    fast = [kernels for kernels in able if kernels.name not in ("plain", "reference")]
    return next((kernels for kernels in fast if not saturates(kernels, layer)), able[0])


def _ranked(layer: Int8Layer | None = None) -> list[Kernels]:
    """Kernels that run here, the ones known to be fastest first: FBGEMM for dynamic products, which it quantizes itself."""
    names = ["onednn", "fbgemm", "qnnpack", "plain", "reference"]
    if isinstance(layer, Int8DynamicLinear):
        names[:2] = ["fbgemm", "onednn"]
    if is_arm():
        names = ["qnnpack", *(name for name in names if name != "qnnpack")]
    here = {kernels.name: kernels for kernels in available_kernels()}
    return [here[name] for name in names if name in here]


def weight_bits(name: str) -> int:
    """7 where these kernels lose large sums on this CPU with weights of 8 bits, else 8. For auto, those that it takes first."""
    return 7 if saturating_shapes(name) else 8


def saturation_note(name: str) -> str | None:
    """A sentence for a user whose weights take 8 bits, or None where nothing is lost."""
    lost, used = saturating_shapes(name), _used(name).name
    if not lost:
        return None
    return (
        f"On this CPU {used} cuts off large sums in {', '.join(lost)}: weights of 8 bits cost accuracy, 7 bits do not."
    )


def saturating_shapes(name: str, *, bits: int = 8) -> tuple[str, ...]:
    """The kinds of layers, in words, for which the largest codes do not give the exact sums."""
    return lost_kinds(_used(name), bits=bits)


def _used(name: str) -> Kernels:
    return _ranked()[0] if name in AUTO else find_kernels(name)
