from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from dlkit.config import LoadedConfig, load_config
from dlkit.errors import ConfigError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a config below the current folder, which is empty at first, and returns its relative path."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str, name: str = "cfg.yaml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def load(write: Write) -> Callable[..., LoadedConfig]:
    """Loads a config from its text with overrides."""
    return lambda text, *overrides: load_config(write(text), overrides=overrides)


@pytest.fixture
def problems(write: Write) -> Callable[..., list[str]]:
    """The problems of a text as lines."""

    def find(text: str, *overrides: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_config(write(text), overrides=overrides)
        return [str(problem) for problem in caught.value.problems]

    return find
