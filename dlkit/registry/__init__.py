"""The names that a config may use, what they stand for, and which options they take; all without importing torch.

`tables.py` holds our own names, written by hand. `scripts/generate_registry` makes `names.json` from those and from the
namespaces of torch and torchvision, so that checking a config, listing names and the JSON Schema need no torch; a test
keeps the file current. `core/components.py` imports what a name stands for.
"""

from dlkit.registry.lookup import Entry, Option, entries, find_entry, is_current, kinds, spellings
from dlkit.registry.tables import INJECTED, ROWS, injected_into
