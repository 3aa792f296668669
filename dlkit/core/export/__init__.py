"""Files for other programs: ONNX, exported programs, plain weights."""
