"""The lines of Python that load an exported file, for people to copy."""

from collections.abc import Sequence
from pathlib import Path

from dlkit.core.modelfile import ModelSpec
from dlkit.core.models import HAS_AUX_HEADS


def load_onnx(spec: ModelSpec, path: Path, *, threads: int | None = None, takes_any_size: bool = False) -> list[str]:
    """With ONNX Runtime."""
    sizes = (spec.info.input_size[0], "height", "width") if takes_any_size else spec.info.input_size
    return [
        *onnx_session(path, threads),
        f'(logits,) = session.run(None, {{"input": inputs}})  # {_inputs(spec, sizes)}',
    ]


def onnx_session(path: Path, threads: int | None) -> list[str]:
    """A session of ONNX Runtime, of that many threads as `dlkit bench` runs it, or as ONNX Runtime does by itself."""
    if threads is None:
        return ["import onnxruntime", f"session = onnxruntime.InferenceSession({str(path)!r})"]
    return [
        "import onnxruntime",
        "options = onnxruntime.SessionOptions()",
        f"options.intra_op_num_threads, options.inter_op_num_threads = {threads}, 1",
        f"session = onnxruntime.InferenceSession({str(path)!r}, options)",
    ]


def load_pt2(spec: ModelSpec, path: Path, *, threads: int | None = None) -> list[str]:
    """With torch."""
    return [
        *torch_threads(threads),
        f"network = torch.export.load({str(path)!r}).module()",
        f"logits = network(inputs)  # {_inputs(spec)}",
    ]


def load_compiled(spec: ModelSpec, path: Path, *, threads: int | None = None) -> list[str]:
    """With torch, of the version that compiled it."""
    return [
        *torch_threads(threads),
        f"network = torch._inductor.aoti_load_package({str(path)!r})",
        f"logits = network(inputs)  # {_inputs(spec)}",
    ]


def load_state_dict(spec: ModelSpec, path: Path) -> list[str]:
    """With torch, into torchvision's network where it is one."""
    return ["import torch", *_into_network(spec, f"torch.load({str(path)!r}, weights_only=True)")]


def load_safetensors(spec: ModelSpec, path: Path) -> list[str]:
    """With safetensors, into torchvision's network where it is one."""
    return ["from safetensors.torch import load_file", *_into_network(spec, f"load_file({str(path)!r})")]


def load_sparse(spec: ModelSpec, path: Path) -> list[str]:
    """With torch, made dense, into torchvision's network where it is one."""
    *build, load = _into_network(spec, "dense")
    return [
        "import torch",
        f"sparse = torch.load({str(path)!r}, weights_only=True)",
        *(line for line in build if not line.startswith("weights =")),
        "sizes = {name: tensor.shape for name, tensor in network.state_dict().items()}",
        "dense = {name: tensor.to_dense().reshape(sizes[name]) for name, tensor in sparse.items()}",
        load.replace("weights", "dense"),
    ]


def load_timm(spec: ModelSpec, path: Path) -> list[str]:
    """With timm."""
    return ["import timm", f'network = timm.create_model("local-dir:{path}", pretrained=True)']


def torch_threads(threads: int | None) -> list[str]:
    """torch with that many threads, or as many as it takes by itself."""
    return ["import torch"] if threads is None else ["import torch", f"torch.set_num_threads({threads})"]


def _into_network(spec: ModelSpec, weights: str) -> list[str]:
    arch = spec.arch
    if arch.registry != "torchvision" or spec.transforms or spec.info.input_size[0] != 3:
        return [f"weights = {weights}", "network.load_state_dict(weights)  # a network of the same class and sizes"]
    options = {name: value for name, value in arch.options.items() if name != "in_channels"}
    if arch.name in HAS_AUX_HEADS:
        options["aux_logits"] = False
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    build = f"network = torchvision.models.{arch.name}({arguments})"
    return ["import torchvision", build, f"network.load_state_dict({weights})"]


def _inputs(spec: ModelSpec, sizes: Sequence[int | str] = ()) -> str:
    listed = ", ".join(map(str, sizes or spec.info.input_size))
    prepared = ", normalized" if spec.info.mean else ""
    return f"float32 (N, {listed}){prepared}"
