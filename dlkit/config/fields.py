"""Questions to the schema: what may be written at a path, which keys a section has, and which components it names."""

from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dlkit.config.schema import Config
from dlkit.config.section import Component, Section
from dlkit.config.source_locations import KeyPath

# the registry kind of each section that is a component, and of each list of components in the section data
KIND_OF_SECTION = {
    "data": "datasets",
    "model": "models",
    "loss": "losses",
    "optimizer": "optimizers",
    "schedule": "schedules",
}
KIND_OF_PART = {("optimizer", "others"): "optimizers"}
KIND_OF_LIST = {"transforms": "transforms", "eval_transforms": "transforms", "batch_transforms": "batch_transforms"}


def kind_at(path: KeyPath) -> str | None:
    """The registry kind of the component at a path, or None if there is no component.

    >>> kind_at(("data", "eval_transforms", 0))
    'transforms'
    """
    if len(path) == 1:
        return KIND_OF_SECTION.get(str(path[0]))
    if len(path) == 2:
        return KIND_OF_PART.get((str(path[0]), str(path[1])))
    if len(path) == 3 and path[0] == "data" and isinstance(path[2], int):
        return KIND_OF_LIST.get(str(path[1]))
    return None


def component_paths(values: dict[str, Any]) -> Iterator[KeyPath]:
    """The paths of all components in the values, whether or not they are written correctly."""
    for section in KIND_OF_SECTION:
        if section in values:
            yield (section,)
    for section, key in KIND_OF_PART:
        if isinstance(values.get(section), dict) and values[section].get(key) is not None:
            yield section, key
    data = values.get("data")
    lists = {key: data.get(key) for key in KIND_OF_LIST} if isinstance(data, dict) else {}
    for key, items in lists.items():
        yield from (("data", key, index) for index in range(len(items) if isinstance(items, list) else 0))


def annotation_of(field: FieldInfo) -> Any:
    """A field's type together with its constraints."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, each with its constraints, or the one type."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(inner for member in get_args(annotation) for inner in alternatives(member))
    union, constraints = split_constraints(annotation)
    if constraints and get_origin(union) in (Union, UnionType):
        return tuple(Annotated[member, *constraints] for member in get_args(union))
    return (annotation,)


def plain_types(annotation: Any) -> list[Any]:
    """The members of a union, or the one type, without their constraints."""
    return [split_constraints(alternative)[0] for alternative in alternatives(annotation)]


def split_constraints(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its constraints, and the constraints."""
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    inner, *metadata = get_args(annotation)
    flat = [item for entry in metadata for item in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
    return inner, tuple(flat)


def is_section(annotation: Any) -> bool:
    """Whether a type is a mapping with known keys."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def is_component(annotation: Any) -> bool:
    """Whether a type is a component, which is built by its name."""
    return isinstance(annotation, type) and issubclass(annotation, Component)


def annotation_at(path: KeyPath) -> Any:
    """The type at a path, or None if the schema does not know the path (a component's own option)."""
    annotation: Any = Config
    for part in path:
        annotation = next(filter(None, (_child(inner, part) for inner in plain_types(annotation))), None)
        if annotation is None:
            return None
    return annotation


def _child(inner: Any, part: str | int) -> Any:
    if is_section(inner) and part in inner.model_fields:
        return annotation_of(inner.model_fields[part])
    if get_origin(inner) is list and isinstance(part, int):
        return get_args(inner)[0]
    return None


def section_at(path: KeyPath) -> type[Section] | None:
    """The section at a path, or None."""
    annotation = annotation_at(path)
    return None if annotation is None else next(filter(is_section, plain_types(annotation)), None)


def takes_null(annotation: Any) -> bool:
    """Whether null is a valid value."""
    return any(inner in (None, NoneType, Any) for inner in plain_types(annotation))


def is_required(path: KeyPath) -> bool:
    """Whether the key at a path has no default."""
    section, key = section_at(path[:-1]), path[-1]
    return section is not None and key in section.model_fields and section.model_fields[str(key)].is_required()


def item_type(annotation: Any) -> Any:
    """The type of a list's items, or None if there is no list."""
    return next((get_args(inner)[0] for inner in plain_types(annotation) if get_origin(inner) is list), None)


@cache
def sections() -> dict[KeyPath, type[Section]]:
    """Every section by its path, in the order of the schema; the empty path is the top. A list has the path of its key."""
    found: dict[KeyPath, type[Section]] = {}

    def collect(path: KeyPath, section: type[Section]) -> None:
        found[path] = section
        for key, field in section.model_fields.items():
            annotation = annotation_of(field)
            for inner in (*plain_types(annotation), *plain_types(item_type(annotation))):
                if is_section(inner) and inner is not Component:
                    collect((*path, key), inner)

    collect((), Config)
    return found


@cache
def sections_by_key() -> dict[str, tuple[KeyPath, ...]]:
    """The sections that have each key of the schema; a component's `name` is left out, and what a part of it repeats."""
    found: dict[str, tuple[KeyPath, ...]] = {}
    for path, section in sections().items():
        if path in KIND_OF_PART:
            continue
        for key in section.model_fields:
            if key != "name" or not is_component(section):
                found[key] = (*found.get(key, ()), path)
    return found
