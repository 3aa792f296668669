"""What the terminal shows, where it is narrow."""

import io

import pytest

from dlkit.cli.console import PatientConsole, show_table


@pytest.mark.parametrize("width", [30, 100])
def test_numbers_are_never_broken_in_two(monkeypatch, width):
    stream = io.StringIO()
    monkeypatch.setattr("dlkit.cli.console.stdout_console", lambda: PatientConsole(file=stream, width=width))
    cells = ("float32", "1231.24", "1100.20-1900.42", "12.00x")
    show_table(("ms", "batch 1", "p10-p90", "gain"), [cells])
    assert stream.getvalue().splitlines()[-1].split() == list(cells)


def test_text_is_broken_between_its_words(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("dlkit.cli.console.stdout_console", lambda: PatientConsole(file=stream, width=30))
    show_table(("what", "count"), [("a text that is longer than its line", "1234567")])
    lines = stream.getvalue().splitlines()
    assert len(lines) > 2 and max(map(len, lines)) <= 30 and "1234567" in lines[1]
