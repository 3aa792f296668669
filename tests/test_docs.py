"""The pages under docs/ and the README against the code: nothing undocumented, nothing dead, nothing out of date."""

import re
import runpy
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import typer.main
import yaml

from dlkit.cli.app import ALIASES, app
from dlkit.config import load_config
from dlkit.registry import entries, kinds

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
INLINE = re.compile(r"(?<!`)`(dlkit [^`]+)`(?!`)")


def relative(path):
    return str(path.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """A fenced block: the page, the line its text begins at, its language, its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{relative(self.page)}:{self.line}"


def blocks(*languages):
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1] in languages:
                found.append(Block(page, text.count("\n", 0, match.start(2)) + 1, match[1], match[2]))
    return found


def prose_of(page):
    return FENCE.sub("", page.read_text(encoding="utf-8"))


# commands and options

ROOT_COMMAND = typer.main.get_command(app)


@cache
def imported(group, name):
    return group.imported(name)


def all_commands(group=ROOT_COMMAND, words=("dlkit",)):
    """Every command that does something, by its words; groups themselves are left out."""
    for name in group.commands:
        command = imported(group, name)
        if hasattr(command, "commands"):
            yield from all_commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = {words: command for words, command in all_commands() if not command.hidden}


def options_of(command):
    return {spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)}


def section(page, heading):
    parts = page.read_text(encoding="utf-8").split(f"\n## {heading}\n")
    assert len(parts) == 2, f"{relative(page)} has no heading '## {heading}'"
    return parts[1].split("\n## ")[0]


def test_there_is_something_to_check():
    assert len(COMMANDS) >= 9 and len(PAGES) > 20 and len(blocks("yaml")) > 10 and len(blocks("python")) > 8


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_a_page(words):
    page = DOCS / "commands" / f"{words[1]}.md"
    assert page.is_file(), f"docs/commands/{words[1]}.md is missing"
    text = page.read_text(encoding="utf-8")
    assert " ".join(words[:2]) in text and all(re.search(rf"\b{word}\b", text) for word in words[2:])


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_is_in_the_command_reference(words):
    text = section(DOCS / "cli.md", " ".join(words))
    for parameter in COMMANDS[words].params:
        for spelling in (*parameter.opts, *parameter.secondary_opts):
            if spelling.startswith("-"):
                assert f"`{spelling}`" in text, spelling
        assert parameter.help, f"{' '.join(words)}: {parameter.name} has no help"
        assert parameter.help.replace("|", "\\|") in text


@pytest.mark.parametrize("kind", kinds())
def test_every_name_and_its_options_are_documented(kind):
    rows = [line for line in section(DOCS / "names.md", kind).splitlines() if line.startswith("| `")]
    assert len(rows) == len(entries(kind))
    for row, entry in zip(rows, entries(kind).values(), strict=True):
        cells = re.split(r"(?<!\\)\|", row)
        assert set(re.findall(r"`([^`]+)`", cells[1])) == {entry.name, *entry.also}
        assert set(re.findall(r"`(\w+)", cells[2])) == set(entry.options or ())
        assert cells[3].strip(), f"{kind} {entry.name} has no summary"


def test_every_layer_kind_is_documented():
    from dlkit.core.models import KINDS

    table = section(DOCS / "models.md", "A list of layers")
    assert all(re.search(rf"^\|[^|]*`{kind}`", table, re.MULTILINE) for kind in KINDS)


def test_every_page_is_linked_from_the_index():
    linked = {(DOCS / target.partition("#")[0]).resolve() for target in LINK.findall((DOCS / "index.md").read_text())}
    assert {page for page in DOCS.rglob("*.md") if page.name != "index.md"} <= linked


# links


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{relative(page)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(path), f"{relative(page)} links to {target}: no such heading"


# examples


def is_whole_config(text):
    values = yaml.safe_load(text)
    return isinstance(values, dict) and {"data", "model"} <= set(values)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_configs_pass_the_check(block, tmp_path):
    assert is_whole_config(block.text) or not block.text.startswith("data:"), "a config needs data and model"
    if is_whole_config(block.text):
        (tmp_path / "cfg.yaml").write_text(block.text, encoding="utf-8")
        load_config(tmp_path / "cfg.yaml")


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block):
    compile(block.text, str(block), "exec")


def command_lines():
    """(place, words) of every call of dlkit in shell blocks, plain blocks and inline code."""
    for block in blocks("sh", "console", "bash", ""):
        for line in block.text.splitlines():
            for part in re.split(r"&&|\|\|?|;", line.removeprefix("$ ")) if '"' not in line else [line]:
                if part.strip().startswith("dlkit "):
                    yield str(block), shlex.split(part, comments=True)
    for page in PAGES:
        for code in INLINE.findall(prose_of(page)):
            yield relative(page), code.split()


def find_command(words):
    """The command that words call, and the words behind it."""
    command, rest = ROOT_COMMAND, [ALIASES.get(word, word) for word in words[1:]]
    # what stands in capitals is filled in by the reader
    while rest and not rest[0].startswith("-") and not rest[0].isupper() and hasattr(command, "commands"):
        assert rest[0] in command.commands, f"no command {rest[0]!r}"
        command = imported(command, rest.pop(0))
    return command, rest


CALLS = sorted({(place, tuple(words)) for place, words in command_lines()})


def test_there_are_calls_to_check():
    assert len(CALLS) > 40


@pytest.mark.parametrize(
    ("place", "words"), CALLS, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_command_lines_name_what_exists(place, words):
    command, rest = find_command(words)
    if (getattr(command, "context_settings", None) or {}).get("ignore_unknown_options"):
        return
    known = {*options_of(command), *options_of(ROOT_COMMAND), "-h", "--help"}
    for word in rest:
        if re.match(r"--?[a-z]", word):
            assert word.partition("=")[0] in known, f"{place}: {' '.join(words)}: no option {word}"


# what is generated


def test_generated_pages_are_current(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["generate_docs", "--check"])
    script = runpy.run_path(str(ROOT / "scripts" / "generate_docs"))
    assert script["main"]() == 0, capsys.readouterr().out
    assert set(script["PAGES"]) == {"docs/config.md", "docs/names.md", "docs/cli.md"}
