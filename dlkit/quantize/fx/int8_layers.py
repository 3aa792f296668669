"""The classes of int8 layers, for those who take converted networks apart."""

import torch

INT8 = torch.ao.nn.quantized
FUSED_INT8 = torch.ao.nn.intrinsic.quantized
DYNAMIC_INT8 = torch.ao.nn.quantized.dynamic
