"""What an exported file says of itself: how to prepare inputs, what the outputs mean, and what made it."""

import json
from typing import Any

import torch
from torch import nn

import dlkit
from dlkit.core.modelfile import ModelSpec


def find_spec_of(network: nn.Module) -> ModelSpec | None:
    """The description that `load_model` leaves on a network."""
    spec = getattr(network, "dlkit_spec", None)
    return spec if isinstance(spec, ModelSpec) else None


def file_metadata(spec: ModelSpec | None) -> dict[str, str]:
    """Texts by name, as ONNX and safetensors files hold them; what is no text is JSON."""
    made_by = {"dlkit": dlkit.__version__, "torch": str(torch.__version__)}
    if spec is None:
        return made_by
    info = spec.info
    values: dict[str, Any] = {"arch": spec.arch.to_dict(), "task": info.task, "input_size": list(info.input_size)}
    for name in ("classes", "mean", "std", "targets", "target_mean", "target_std", "thresholds"):
        value = getattr(info, name)
        if value is not None:
            values[name] = list(value)
    if info.fit is not None:
        values["fit"] = info.to_dict()["fit"]
    if info.temperature is not None:
        values["temperature"] = info.temperature
    if spec.transforms:
        values["transforms"] = [_short(dict(transform)) for transform in spec.transforms]
    return made_by | {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def session_metadata(threads: int | None) -> dict[str, str]:
    """Session options where ONNX Runtime looks for them: it takes them where ORT_LOAD_CONFIG_FROM_MODEL=1 is in its environment."""
    options = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    return {} if threads is None else {"ort_config": json.dumps({"session_options": options})}


def _short(transform: dict[str, Any]) -> dict[str, Any]:
    """A rewrite without its long lists: the recipe of an int8 network is short, the layer sizes of a pruned one are not."""
    return {key: value for key, value in transform.items() if len(json.dumps(value, default=str)) < 1000}
