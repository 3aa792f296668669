"""The schema as questions: what may stand at a path, which keys a section has, and which component kind it names."""

from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dlkit.config.places import KeyPath
from dlkit.config.schema import Config
from dlkit.config.section import Component, Section

_KINDS = {"data": "datasets", "model": "models", "loss": "losses", "optimizer": "optimizers", "schedule": "schedules"}
_LIST_KINDS = {"transforms": "transforms", "eval_transforms": "transforms", "batch_transforms": "batch_transforms"}


def kind_at(path: KeyPath) -> str | None:
    """The registry kind of the component at a path, or None where no component stands.

    >>> kind_at(("data", "eval_transforms", 0))
    'transforms'
    """
    if len(path) == 1:
        return _KINDS.get(str(path[0]))
    if len(path) == 3 and path[0] == "data" and isinstance(path[2], int):
        return _LIST_KINDS.get(str(path[1]))
    return None


def component_paths(values: dict[str, Any]) -> Iterator[KeyPath]:
    """The paths at which the values hold a component, whatever is written there."""
    for section in _KINDS:
        if section in values:
            yield (section,)
    data = values.get("data")
    lists = {key: data.get(key) for key in _LIST_KINDS} if isinstance(data, dict) else {}
    for key, items in lists.items():
        yield from (("data", key, index) for index in range(len(items) if isinstance(items, list) else 0))


def annotation_of(field: FieldInfo) -> Any:
    """A field's type together with its constraints."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def arms(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the one type; constraints stay attached to their alternative."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(arm for member in get_args(annotation) for arm in arms(member))
    inner, constraints = split(annotation)
    if constraints and get_origin(inner) in (Union, UnionType):
        return tuple(Annotated[arm, *constraints] for arm in get_args(inner))
    return (annotation,)


def split(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its constraints, and those."""
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    inner, *metadata = get_args(annotation)
    flat = [item for entry in metadata for item in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
    return inner, tuple(flat)


def is_section(annotation: Any) -> bool:
    """Whether a type is a mapping with keys of its own."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def is_component(annotation: Any) -> bool:
    """Whether a type is built by name."""
    return isinstance(annotation, type) and issubclass(annotation, Component)


def annotation_at(path: KeyPath) -> Any:
    """What may stand at a path, or None where the schema has nothing to say (a component's own option)."""
    annotation: Any = Config
    for part in path:
        annotation = next(filter(None, (_child(arm, part) for arm in arms(annotation))), None)
        if annotation is None:
            return None
    return annotation


def _child(annotation: Any, part: str | int) -> Any:
    inner, _ = split(annotation)
    if is_section(inner) and part in inner.model_fields:
        return annotation_of(inner.model_fields[part])
    if get_origin(inner) is list and isinstance(part, int):
        return get_args(inner)[0]
    return None


def section_at(path: KeyPath) -> type[Section] | None:
    """The section whose keys stand below a path, or None."""
    annotation = annotation_at(path)
    if annotation is None:
        return None
    return next((arm for arm in (split(arm)[0] for arm in arms(annotation)) if is_section(arm)), None)


def takes_null(annotation: Any) -> bool:
    """Whether null may be written."""
    return any(split(arm)[0] in (None, NoneType, Any) for arm in arms(annotation))


def is_required(path: KeyPath) -> bool:
    """Whether the key at a path has no default."""
    section, key = section_at(path[:-1]), path[-1]
    return section is not None and key in section.model_fields and section.model_fields[str(key)].is_required()


def item_type(annotation: Any) -> Any:
    """The type of a list's items, or None where there is no list."""
    return next(
        (get_args(arm)[0] for arm in (split(arm)[0] for arm in arms(annotation)) if get_origin(arm) is list), None
    )


@cache
def sections() -> dict[KeyPath, type[Section]]:
    """Every section by its path, in the order of the schema; the top is at the empty path. Lists show as their key."""
    found: dict[KeyPath, type[Section]] = {}

    def collect(path: KeyPath, section: type[Section]) -> None:
        found[path] = section
        for key, field in section.model_fields.items():
            annotation = annotation_of(field)
            for arm in (*arms(annotation), item_type(annotation)):
                inner = split(arm)[0]
                if is_section(inner) and inner is not Component:
                    collect((*path, key), inner)

    collect((), Config)
    return found


@cache
def homes() -> dict[str, tuple[KeyPath, ...]]:
    """For each key of the schema the sections that have it; a component's `name` is left out."""
    found: dict[str, tuple[KeyPath, ...]] = {}
    for path, section in sections().items():
        for key in section.model_fields:
            if key != "name" or not is_component(section):
                found[key] = (*found.get(key, ()), path)
    return found
