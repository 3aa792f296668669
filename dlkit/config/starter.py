"""The commented file that `dlkit config init` writes; made from the schema, so it shows every key."""

import shlex
from typing import Any

from dlkit.config.dump import dump_values
from dlkit.config.fields import KIND_OF_SECTION, sections
from dlkit.config.schema import Config
from dlkit.config.section import Section

# what the file sets; every other key is a comment with its default
_SET: dict[str, dict[str, Any]] = {
    "data": {"name": "digits", "batch_size": 64},
    "model": {"name": "small_cnn"},
    "optimizer": {"name": "adamw", "lr": 0.003},
    "schedule": {"name": "cosine", "warmup": "5%"},
    "train": {"epochs": 10},
}
# examples that are more use than the default
_EXAMPLES: dict[tuple[str, ...], str] = {
    ("data", "transforms"): "[{name: RandomCrop, size: 8, padding: 1}]",
    ("data", "batch_transforms"): "[{name: mixup, alpha: 0.2}]",
    ("optimizer", "groups"): "[{match: 'fc.*', lr_mult: 10}]",
    ("train", "clip"): "{norm: 1.0}",
    ("train", "early_stop"): "{metric: val_loss, patience: 5}",
    ("model", "layers"): "null",
}
_HEAD = """\
# A dlkit run. Check it: `dlkit config check {path}`. Start it: `dlkit train {path}`.
# A line behind '#' shows a default or an example; take the '#' and the space behind it away to use it.
# Editors complete keys and names from `dlkit config schema -o dlkit.schema.json` and this comment at the top:
#   yaml-language-server: $schema=./dlkit.schema.json
"""
_COMPONENT_LINE = "  # ... and the options of the {section} you name (dlkit list {kind})"
_WIDTH = 34  # where comments begin


def starter_text(path: str = "dlkit.yaml") -> str:
    """A config that trains a small network on the bundled digits and shows every section and key."""
    lines = [
        _HEAD.format(path=shlex.quote(path)),
        _line("# extends: base.yaml", "A config file, or a list of them, that this one builds on."),
    ]
    for key, field in Config.model_fields.items():
        if (key,) not in sections():
            lines.append(_line(f"# {key}: {_shown((key,), field.default)}", field.description))
    for key, field in Config.model_fields.items():
        if (key,) in sections():
            lines += ["", *_section_lines(key, sections()[(key,)], field.description or "")]
    return "\n".join(lines) + "\n"


def _section_lines(key: str, section: type[Section], description: str) -> list[str]:
    given = _SET.get(key, {})
    lines = [_line(f"{key}:" if given else f"# {key}:", description)]
    for name, field in section.model_fields.items():
        start = "" if name in given else "# "
        shown = _yaml(given[name]) if name in given else _shown((key, name), field.default)
        lines.append(_line(f"  {start}{name}: {shown}", field.description))
    if key in KIND_OF_SECTION:
        lines.append(_COMPONENT_LINE.format(section=key, kind=KIND_OF_SECTION[key]))
    return lines


def _line(text: str, description: str | None) -> str:
    return f"{text:<{_WIDTH}}  # {description}"


def _shown(path: tuple[str, ...], default: Any) -> str:
    return _EXAMPLES.get(path) or _yaml(default)


def _yaml(value: Any) -> str:
    return dump_values(value).removesuffix("...\n").strip()
