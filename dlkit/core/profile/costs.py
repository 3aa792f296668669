"""What a model costs, measured on the meta device: shapes are computed, numbers are not, and no memory is taken."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from dlkit.core.models import RunningModules, eval_mode, first_tensor, kept_modes, tensors_in
from dlkit.core.profile.activation_memory import measure_peak_bytes, measure_saved_bytes
from dlkit.core.profile.macs import count_macs, multiplied_activations
from dlkit.errors import UsageError
from dlkit.shapes import size_text


class ProfileError(UsageError):
    """A model that cannot run on the meta device with the input given."""


@dataclass(frozen=True)
class InputSpec:
    """Shape of one sample of one input, without the batch, and its element type."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def on_meta(self, batch: int) -> Tensor:
        """A tensor of this shape without data, of shape (batch, *shape)."""
        return torch.empty(batch, *self.shape, dtype=self.dtype, device="meta")


@dataclass(frozen=True)
class LayerCost:
    """One module, with everything inside it. `out_shape` is of the last call, with the batch; None if never called.

    `attention_macs` are the products of two activations: matrices that both come from the input, with no weight in them.
    """

    path: str
    kind: str
    depth: int
    calls: int
    out_shape: tuple[int, ...] | None
    out_bytes: int
    num_parameters: int
    macs: int
    attention_macs: int


@dataclass(frozen=True)
class ModelProfile:
    """Costs of one forward pass of `batch` samples; bytes are estimates for the parameters' own element type.

    `uncounted` are operators without a formula and how often they ran. `saved_bytes` is what the backward pass keeps
    besides parameters, `peak_bytes` the most activations alive at once in inference. None where it cannot be measured,
    with the reason in `notes`.
    """

    batch: int
    inputs: tuple[InputSpec, ...]
    layers: tuple[LayerCost, ...]
    num_parameters: int
    num_trainable: int
    parameter_bytes: int
    trainable_bytes: int
    buffer_bytes: int
    macs: int
    attention_macs: int
    activation_bytes: int
    uncounted: Mapping[str, int]
    saved_bytes: int | None
    peak_bytes: int | None
    notes: tuple[str, ...] = ()

    def training_bytes(self, *, optimizer_states: int) -> int | None:
        """Weights, gradients, `optimizer_states` numbers per trainable one (SGD momentum 1, Adam 2), saved activations.

        Left out: the workspace of kernels, the allocator's fragments, and gradients of activations in flight.
        """
        if self.saved_bytes is None:
            return None
        states = self.trainable_bytes * (1 + optimizer_states)
        return self.parameter_bytes + self.buffer_bytes + states + self.saved_bytes


def profile_model(
    model: nn.Module, inputs: Sequence[InputSpec], *, batch: int = 1, with_memory: bool = True
) -> ModelProfile:
    """Costs of a model that lies on the meta device, in evaluation mode (saved activations: in training mode).

    Raises ProfileError when the model refuses the input or reads values, which meta tensors do not have.
    """
    tensors = [spec.on_meta(batch) for spec in inputs]
    counter = _Counter(model, tensors)
    with eval_mode(model), torch.no_grad(), counter.running.followed(model), _explained(inputs), counter:
        model(*tensors)
    notes: list[str] = []
    peak = saved = None
    if with_memory:
        peak = _try_measure(lambda: _peak(model, tensors), "peak inference memory", notes)
        saved = _try_measure(lambda: _saved(model, inputs, batch), "saved activations", notes)
    parameters = _unique(model.parameters())
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    return ModelProfile(
        batch=batch,
        inputs=tuple(inputs),
        layers=tuple(counter.rows()),
        num_parameters=sum(parameter.numel() for parameter in parameters),
        num_trainable=sum(parameter.numel() for parameter in trainable),
        parameter_bytes=sum(parameter.nbytes for parameter in parameters),
        trainable_bytes=sum(parameter.nbytes for parameter in trainable),
        buffer_bytes=sum(buffer.nbytes for buffer in _unique(model.buffers())),
        macs=counter.tallies[""].macs,
        attention_macs=counter.tallies[""].attention_macs,
        activation_bytes=counter.activation_bytes,
        uncounted=dict(counter.uncounted),
        saved_bytes=saved,
        peak_bytes=peak,
        notes=tuple(notes),
    )


def output_shape(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Shape of the first output with its batch of 2, for one sample of `shape`; None where the model refuses it."""
    with eval_mode(model), torch.no_grad():
        try:
            output = model(InputSpec(shape).on_meta(2))
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, ZeroDivisionError):
            return None
    tensor = first_tensor(output)
    return None if tensor is None else tuple(tensor.shape)


def _unique(tensors: Iterator[Tensor]) -> list[Tensor]:
    """Each storage once: tied weights are one."""
    return list({tensor.untyped_storage()._cdata: tensor for tensor in tensors}.values())


@contextmanager
def _explained(inputs: Sequence[InputSpec]) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AssertionError) as error:
        shapes = ", ".join(size_text(spec.shape) for spec in inputs)
        raise ProfileError(f"the model does not run on meta tensors of {shapes}: {error}") from error


def _try_measure(measure: Callable[[], int], what: str, notes: list[str]) -> int | None:
    try:
        return measure()
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        notes.append(f"{what} not measured: {error}")
        return None


def _peak(model: nn.Module, tensors: Sequence[Tensor]) -> int:
    with eval_mode(model):
        return measure_peak_bytes(model, tensors)


def _saved(model: nn.Module, inputs: Sequence[InputSpec], batch: int) -> int:
    """Measured on two samples and halved for one, because batch norm refuses to train on a single value."""
    num_samples = max(batch, 2)
    with kept_modes(model):
        model.train()
        saved = measure_saved_bytes(model, [spec.on_meta(num_samples) for spec in inputs])
    return saved * batch // num_samples


@dataclass
class _Tally:
    """Counts of one module, itself and everything inside."""

    calls: int = 0
    macs: int = 0
    attention_macs: int = 0
    out: Tensor | None = None


@dataclass
class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # the base is untyped
    """Counts operators into the modules that are running, and follows which tensors come from the inputs."""

    model: nn.Module
    inputs: Sequence[Tensor]
    tallies: dict[str, _Tally] = field(default_factory=dict)
    uncounted: Counter[str] = field(default_factory=Counter)
    activation_bytes: int = 0

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running = RunningModules(self._leave)
        self._activations: Any = WeakIdKeyDictionary(dict.fromkeys(self.inputs))
        self.tallies = {path: _Tally() for path, _ in self.model.named_modules()}

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator and count it."""
        kwargs = kwargs or {}
        out = op(*args, **kwargs)
        if any(tensor in self._activations for tensor in tensors_in((args, kwargs))):
            self._activations.update(dict.fromkeys(tensors_in(out)))
        macs = count_macs(op, args, out)
        if macs is None:
            self.uncounted[op.name()] += 1
        elif macs:
            is_attention = self._multiplies_activations(op, args)
            for path in {*(entered.name for entered in self.running.stack), ""}:
                self.tallies[path].macs += macs
                self.tallies[path].attention_macs += macs if is_attention else 0
        return out

    def _multiplies_activations(self, op: Any, args: Any) -> bool:
        operands = multiplied_activations(op, args)
        return operands is not None and all(operand in self._activations for operand in operands)

    def _leave(self, path: str, module: nn.Module, output: Any) -> None:
        tally = self.tallies[path]
        tally.calls += 1
        tally.out = first_tensor(output)
        if not any(module.children()) and tally.out is not None:
            self.activation_bytes += tally.out.nbytes

    def rows(self) -> Iterator[LayerCost]:
        """One row per module, in the order in which the model holds them; the model itself is left out."""
        for path, module in self.model.named_modules():
            tally = self.tallies[path]
            if path or not any(module.children()):
                yield LayerCost(
                    path=path,
                    kind=type(module).__name__,
                    depth=path.count(".") + 1 if path else 1,
                    calls=tally.calls,
                    out_shape=None if tally.out is None else tuple(tally.out.shape),
                    out_bytes=0 if tally.out is None else tally.out.nbytes,
                    num_parameters=sum(p.numel() for p in _unique(module.parameters())),
                    macs=tally.macs,
                    attention_macs=tally.attention_macs,
                )
