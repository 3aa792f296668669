"""What a page is made of, in plain values; page.html.j2 draws each kind of block."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

Block = Any  # one of the classes below that have a kind


class Cell(NamedTuple):
    """A cell of a table: its text, and the number that it is sorted by, where it is one."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Sheet:
    """A table. Columns of `numbers` stand at the right; a click on a heading sorts. `note` stands below it."""

    kind: ClassVar = "sheet"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""

    @property
    def numbers(self) -> set[int]:
        """The columns that hold numbers."""
        places = range(len(self.columns))
        return {place for place in places if any(row[place].value is not None for row in self.rows)}


@dataclass(frozen=True)
class Chart:
    """A figure of Plotly: traces and layout. `can_be_log` gives it a button for a logarithmic axis; a `wide` one takes the whole row."""

    kind: ClassVar = "chart"
    title: str
    traces: Sequence[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    can_be_log: bool = False
    is_wide: bool = False
    height: int = 300


@dataclass(frozen=True)
class Picture:
    """A sample as a picture, or as several beside each other, with lines of text below; `sources` are their data URLs."""

    sources: Sequence[str]
    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    """Samples in a grid. `heads` say what the pictures of a sample are where there are several, `legend` is what colours in them mean:
    words, and the colour as CSS has it.
    """

    kind: ClassVar = "gallery"
    title: str
    pictures: Sequence[Picture]
    heads: Sequence[str] = ()
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Facts:
    """Names and values, one below the other."""

    kind: ClassVar = "facts"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    kind: ClassVar = "words"
    text: str


@dataclass(frozen=True)
class Folded:
    """Text as it is, such as a config, that is unfolded by a click."""

    kind: ClassVar = "folded"
    title: str
    text: str


@dataclass(frozen=True)
class PageSection:
    """A heading and what stands below it."""

    anchor: str
    title: str
    blocks: Sequence[Block]


class Headline(NamedTuple):
    """A number in large letters at the top, and what it is."""

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True)
class Page:
    """All of it. `status` is the word of the run folder, empty for several runs."""

    title: str
    subtitle: str
    status: str
    headlines: Sequence[Headline]
    sections: Sequence[PageSection]
    made: str = ""
