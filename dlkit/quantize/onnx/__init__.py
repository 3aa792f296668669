"""Int8 networks as ONNX files in QDQ form, by `writing`, which the exporter imports late: onnx is an optional extra."""
