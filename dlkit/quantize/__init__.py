"""Post-training and quantization-aware int8."""
