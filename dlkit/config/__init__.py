"""YAML in, typed and checked objects out; every mistake with its file, line and column, and nothing of torch.

`load_config` and `load_mapping` are the door. They are resolved on first use, because pydantic costs some 60 ms that
commands without a config need not pay.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlkit.config.dump import dump_config as dump_config
    from dlkit.config.json_schema import config_schema as config_schema
    from dlkit.config.loaded import LoadedConfig as LoadedConfig
    from dlkit.config.loading import load_config as load_config
    from dlkit.config.loading import load_data_option as load_data_option
    from dlkit.config.loading import load_mapping as load_mapping
    from dlkit.config.report import problem_report as problem_report
    from dlkit.config.starter import starter_text as starter_text

__all__ = [
    "LoadedConfig",
    "config_schema",
    "dump_config",
    "load_config",
    "load_data_option",
    "load_mapping",
    "problem_report",
    "starter_text",
]

_DOORS = {
    "LoadedConfig": "loaded",
    "config_schema": "json_schema",
    "dump_config": "dump",
    "load_config": "loading",
    "load_data_option": "loading",
    "load_mapping": "loading",
    "problem_report": "report",
    "starter_text": "starter",
}


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module 'dlkit.config' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"dlkit.config.{_DOORS[name]}"), name)
