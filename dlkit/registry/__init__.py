"""Names that a config may use, what they stand for, and which options they take; all without importing torch.

`tables.py` holds our own names by hand. `names.json` is made from those and from torch's and torchvision's namespaces by
`scripts/generate_registry`, so that checking a config, listing names and the JSON Schema need no torch. It is checked to be
current by a test. Objects are resolved late, by `core/components.py`.
"""

from dlkit.registry.lookup import Entry as Entry
from dlkit.registry.lookup import Option as Option
from dlkit.registry.lookup import entries as entries
from dlkit.registry.lookup import find_entry as find_entry
from dlkit.registry.lookup import is_current as is_current
from dlkit.registry.lookup import kinds as kinds
