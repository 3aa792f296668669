"""The words that an option of a command or of a task may be, declared once and without torch."""

from typing import Literal

SplitName = Literal["test", "val", "train"]
ExportFormat = Literal["onnx", "pt2", "aoti", "state-dict", "safetensors", "sparse", "timm"]

# training
Extension = Literal["stretch", "tail"]

# quantization
QuantizeMode = Literal["dynamic", "static", "qat"]
QatKeep = Literal["best", "trained"]
Backend = Literal["x86", "fbgemm", "onednn", "qnnpack"]
AskedBackend = Literal["auto", Backend]
Observer = Literal["histogram", "minmax", "percentile", "mse"]
Reduce = Literal["weights", "activations", "none"]
AskedReduce = Literal["auto", Reduce]
Int8Export = Literal["onnx"]

# pruning
PruneMethod = Literal["l1", "l2", "random", "bn", "fpgm", "taylor"]
PruneScope = Literal["layer", "global"]
PruneSchedule = Literal["agp", "linear"]

# sweeps
SamplerName = Literal["tpe", "random", "grid"]
PrunerName = Literal["asha", "hyperband", "none"]
