"""A config as YAML text that reads back to the same values."""

from typing import Any

import yaml

from dlkit.config.scalars import resolve_scalar
from dlkit.config.schema import Config


def dump_config(config: Config) -> str:
    """YAML text of a config with all defaults written out, sections in the order of the schema."""
    blocks = [dump_values({key: value}) for key, value in config.model_dump().items()]
    plain = [block for block in blocks if block.count("\n") == 1]
    return "".join(plain) + "".join(f"\n{block}" for block in blocks if block not in plain)


def dump_values(values: Any) -> str:
    """YAML text of plain values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)


class _Dumper(yaml.SafeDumper):
    """Block style, with lists of plain values on one line, and quotes if YAML 1.1 or our loader would not read a string."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        node = self.represent_str(text)
        if not text.isprintable():
            node.style = '"'  # with escapes, because Unicode line breaks would come back as others
        elif not _reads_as_string(text):
            node.style = "'"
        return node

    def represent_items(self, items: list[Any]) -> yaml.SequenceNode:
        is_plain = not any(isinstance(item, list | dict) for item in items)
        return self.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=is_plain)

    def represent_keys(self, keys: dict[str, Any]) -> yaml.MappingNode:
        return self.represent_mapping("tag:yaml.org,2002:map", keys, flow_style=False)


def _reads_as_string(text: str) -> bool:
    try:
        return isinstance(resolve_scalar(text), str)
    except ValueError:
        return False


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(list, _Dumper.represent_items)
_Dumper.add_representer(dict, _Dumper.represent_keys)
