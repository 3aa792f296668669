"""Int8 networks in model files: written, proven in a fresh process, and built again."""

from dlkit.quantize.storage.replay import after_loading, replay, rewrite_entry
from dlkit.quantize.storage.saving import check_reload, save_quantized
