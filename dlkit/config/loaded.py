"""A config that has passed the checks that need no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dlkit.config.places import Path, Places
from dlkit.config.schema import Config
from dlkit.errors import ConfigError


@dataclass(frozen=True)
class LoadedConfig:
    """The typed config, the plain values it was made from, where each key stands, and the main file's text."""

    config: Config
    values: Mapping[str, Any]
    places: Places = field(default_factory=Places)
    text: str | None = None

    def error(self, path: Path, message: str, *, at: str = "value") -> ConfigError:
        """A config error at one key, for the checks that come after loading."""
        return ConfigError([self.places.problem(path, message, at=at)])
