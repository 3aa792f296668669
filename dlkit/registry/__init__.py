"""Names that a config may use, what they stand for, and which options they take; all without importing torch.

`tables.py` holds our own names by hand. `names.json` is made from those and from torch's and torchvision's namespaces by
`scripts/generate_registry`, so that checking a config, listing names and the JSON Schema need no torch. It is checked to be
current by a test. Objects are resolved late, by `core/components.py`.
"""

from dlkit.registry.lookup import Entry, Option, entries, find_entry, is_current, kinds
from dlkit.registry.tables import ACTIVATIONS, INJECTED, KINDS, SCHEDULES

__all__ = [
    "ACTIVATIONS",
    "INJECTED",
    "KINDS",
    "SCHEDULES",
    "Entry",
    "Option",
    "entries",
    "find_entry",
    "is_current",
    "kinds",
]
