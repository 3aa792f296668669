"""From YAML to typed and checked objects, without torch; every mistake with its file, line and column.

Names are resolved on first use, because pydantic costs some 60 ms that commands without a config need not pay.
"""

from typing import TYPE_CHECKING

from dlkit.doors import lazy_door

if TYPE_CHECKING:
    from dlkit.config.data_section import Data, Fitting, GrowingSize, HeldFold, Mixing, Normalization, Sampling
    from dlkit.config.dump import dump_config, dump_values
    from dlkit.config.fields import (
        annotation_at,
        annotation_of,
        is_section,
        kind_at,
        plain_types,
        sections,
        sections_by_key,
    )
    from dlkit.config.image_transforms import is_done_anyway, said_otherwise
    from dlkit.config.json_schema import config_schema
    from dlkit.config.loading import LoadedConfig, load_config, load_data_option, load_mapping
    from dlkit.config.scalars import resolve_scalar
    from dlkit.config.schema import (
        Checkpoint,
        Clip,
        Config,
        Distill,
        EarlyStop,
        Eval,
        Loss,
        Model,
        Optimizer,
        OtherOptimizer,
        ParameterGroup,
        Runtime,
        Schedule,
        Segments,
    )
    from dlkit.config.section import Component
    from dlkit.config.source_locations import KeyPath
    from dlkit.config.spaces import KeySpace, SearchSpace, load_spaces
    from dlkit.config.starter import starter_text
    from dlkit.config.type_mismatch import type_text
    from dlkit.config.unknown_keys import keys_named

__getattr__, __all__ = lazy_door(
    __name__,
    {
        "data_section": "Data Fitting HeldFold GrowingSize Mixing Normalization Sampling",
        "dump": "dump_config dump_values",
        "fields": "annotation_at annotation_of is_section kind_at plain_types sections sections_by_key",
        "image_transforms": "is_done_anyway said_otherwise",
        "json_schema": "config_schema",
        "loading": "LoadedConfig load_config load_data_option load_mapping",
        "scalars": "resolve_scalar",
        "schema": "Checkpoint Clip Config Distill EarlyStop Eval Loss "
        "Model Optimizer OtherOptimizer ParameterGroup Runtime Schedule Segments",
        "section": "Component",
        "source_locations": "KeyPath",
        "spaces": "SearchSpace KeySpace load_spaces",
        "starter": "starter_text",
        "type_mismatch": "type_text",
        "unknown_keys": "keys_named",
    },
)
