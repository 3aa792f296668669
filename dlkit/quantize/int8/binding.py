"""Giving the layers of a program the kernels that compute them."""

from torch import Tensor, nn

from dlkit.quantize.int8.kernels import describe_packing, find_kernels, pick_kernels, time_kernels
from dlkit.quantize.int8.layer import Int8Layer


def bind_kernels(network: nn.Module, name: str = "auto", *, example: Tensor | None = None) -> None:
    """Let every int8 layer compute by the kernels of that name, or by the next best that can. Raises UsageError for a name that
    does not run here.

    With an example of the inputs of the network, weights are laid out for the sizes that come to each layer: oneDNN would lay some
    out anew in every run.
    """
    for layer in int8_layers(network).values():
        layer.bind(pick_kernels(layer, name))
    if example is not None:
        for layer, inputs in _inputs_of(network, example).items():
            layer.expected_shape = tuple(inputs[0].shape)
            layer.bind(pick_kernels(layer, name))


def bind_fastest(network: nn.Module, example: Tensor) -> None:
    """Let every layer compute by what is measured to be fastest for the inputs that an example of the network's brings to it."""
    bind_kernels(network, example=example)
    for layer, inputs in _inputs_of(network, example).items():
        times = time_kernels(layer, *inputs)
        if times:
            layer.bind(find_kernels(min(times, key=times.__getitem__)))


def _inputs_of(network: nn.Module, example: Tensor) -> dict[Int8Layer, tuple[Tensor, ...]]:
    """What comes to each layer in one run; that of its first call."""
    seen: dict[Int8Layer, tuple[Tensor, ...]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, Int8Layer)
        seen.setdefault(layer, inputs)

    hooks = [layer.register_forward_pre_hook(note) for layer in int8_layers(network).values()]
    try:
        network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def unpack_kernels(network: nn.Module) -> None:
    """Let every layer pack its weight anew in each run: for an exporter, which cannot store what is packed.

    Inductor, told to freeze, packs once when it compiles.
    """
    describe_packing()
    for layer in int8_layers(network).values():
        layer.unpack()


def int8_layers(network: nn.Module) -> dict[str, Int8Layer]:
    """The layers that compute on codes, by name; the parts of recurrent layers and transposed convolutions too."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Int8Layer)}
