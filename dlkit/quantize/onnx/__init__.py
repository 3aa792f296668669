"""Int8 networks as ONNX files in QDQ form."""

from dlkit.quantize.onnx.writing import make_onnx
