"""The base classes of the schema: a section is a mapping with known keys, a component has a name and options beside it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dlkit.quantities import parse_duration_s

Auto = Literal["auto"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Size = PositiveInt | Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]


class Section(BaseModel):
    """A mapping with known keys; any other key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Component(Section):
    """A thing that is built by name, with its options beside the name."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(
        min_length=1,
        description="A dlkit name, a torch or torchvision name, `package.module:attr`, or `./file.py:attr`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """The component's own options: every key that its section does not declare."""
        return dict(self.model_extra or {})


def check_duration(value: str | float | None) -> str | float | None:
    """Raise ValueError for a duration that cannot be read."""
    if value is not None:
        parse_duration_s(value)
    return value
