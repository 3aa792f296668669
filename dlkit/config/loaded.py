"""A config that has passed the checks that need no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dlkit.config.places import KeyPath, Places
from dlkit.config.schema import Config
from dlkit.errors import ConfigError, Problem


@dataclass(frozen=True)
class LoadedConfig:
    """The typed config, the plain values it was made from, where each key stands, the main file's text, and what is
    allowed in it but probably not wanted.
    """

    config: Config
    values: Mapping[str, Any]
    places: Places = field(default_factory=Places)
    text: str | None = None
    warnings: tuple[Problem, ...] = ()

    def error(self, path: KeyPath, message: str, *, at: str = "value") -> ConfigError:
        """A config error at one key, for the checks that come after loading."""
        return ConfigError([self.places.problem(path, message, at=at)])
