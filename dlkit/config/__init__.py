"""YAML in, typed and checked objects out; every mistake with its file, line and column, and nothing of torch.

Names are resolved on first use, because pydantic costs some 60 ms that commands without a config need not pay.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlkit.config.document import parse_document as parse_document
    from dlkit.config.dump import dump_config as dump_config
    from dlkit.config.dump import dump_values as dump_values
    from dlkit.config.fields import annotation_of as annotation_of
    from dlkit.config.fields import is_component as is_component
    from dlkit.config.fields import is_section as is_section
    from dlkit.config.fields import sections as sections
    from dlkit.config.json_schema import config_schema as config_schema
    from dlkit.config.loaded import LoadedConfig as LoadedConfig
    from dlkit.config.loading import load_config as load_config
    from dlkit.config.loading import load_data_option as load_data_option
    from dlkit.config.loading import load_mapping as load_mapping
    from dlkit.config.places import KeyPath as KeyPath
    from dlkit.config.places import Place as Place
    from dlkit.config.places import Places as Places
    from dlkit.config.quantities import parse_duration_s as parse_duration_s
    from dlkit.config.quantities import parse_length as parse_length
    from dlkit.config.report import problem_report as problem_report
    from dlkit.config.running import Checkpoint as Checkpoint
    from dlkit.config.running import Eval as Eval
    from dlkit.config.running import Runtime as Runtime
    from dlkit.config.schema import Clip as Clip
    from dlkit.config.schema import Config as Config
    from dlkit.config.schema import Data as Data
    from dlkit.config.schema import EarlyStop as EarlyStop
    from dlkit.config.schema import Loss as Loss
    from dlkit.config.schema import Model as Model
    from dlkit.config.schema import Normalization as Normalization
    from dlkit.config.schema import Optimizer as Optimizer
    from dlkit.config.schema import ParameterGroup as ParameterGroup
    from dlkit.config.schema import Schedule as Schedule
    from dlkit.config.schema import Segments as Segments
    from dlkit.config.section import Component as Component
    from dlkit.config.starter import starter_text as starter_text
    from dlkit.config.suggest import closest as closest
    from dlkit.config.suggest import did_you_mean as did_you_mean
    from dlkit.config.tree import to_values as to_values
    from dlkit.config.words import expected as expected

_MODULES = {
    "document": ("parse_document",),
    "dump": ("dump_config", "dump_values"),
    "fields": ("annotation_of", "is_component", "is_section", "sections"),
    "json_schema": ("config_schema",),
    "loaded": ("LoadedConfig",),
    "loading": ("load_config", "load_data_option", "load_mapping"),
    "places": ("KeyPath", "Place", "Places"),
    "quantities": ("parse_duration_s", "parse_length"),
    "report": ("problem_report",),
    "running": ("Checkpoint", "Eval", "Runtime"),
    "schema": (
        "Clip", "Config", "Data", "EarlyStop", "Loss", "Model", "Normalization", "Optimizer", "ParameterGroup", "Schedule",
        "Segments",
    ),
    "section": ("Component",),
    "starter": ("starter_text",),
    "suggest": ("closest", "did_you_mean"),
    "tree": ("to_values",),
    "words": ("expected",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'dlkit.config' has no attribute {name!r}")
    return getattr(import_module(f"dlkit.config.{_MODULE_OF[name]}"), name)
