"""dlkit: deep-learning utilities for people who train and ship PyTorch models.

The public door is small: `dlkit.train`, `dlkit.load_model`, `dlkit.write_report` and the commands. They are resolved on first use, so that
`import dlkit` costs nothing and never imports torch.
"""

TYPE_CHECKING = False  # as in typing, which would take longer to import than all that happens before signals are heeded
if TYPE_CHECKING:
    from dlkit.core.modelfile import load_model as load_model
    from dlkit.from_python import train as train
    from dlkit.from_python import write_report as write_report

__version__ = "0.1.0"
__all__ = ["__version__", "load_model", "train", "write_report"]

_DOORS = {
    "train": "dlkit.from_python",
    "write_report": "dlkit.from_python",
    "load_model": "dlkit.core.modelfile",
}


def __getattr__(name: str) -> object:
    if name not in _DOORS:
        raise AttributeError(f"module 'dlkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_DOORS[name]), name)
