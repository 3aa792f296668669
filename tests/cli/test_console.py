"""What the terminal shows, where it is narrow."""

import re

import pytest


def lines_of(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


@pytest.mark.parametrize("columns", [10, 100])
def test_numbers_are_never_broken_in_two(dlkit, columns):
    counts = [line.split()[-1] for line in lines_of(dlkit("list").out)[1:-2]]
    words = " ".join(lines_of(dlkit("list", columns=columns).out)).split()
    assert len(counts) > 5 and all(count.isdecimal() and count in words for count in counts)


def test_text_is_broken_between_its_words(dlkit):
    whole, narrow = (lines_of(dlkit("list", "losses", columns=columns).out)[:-1] for columns in (None, 80))
    assert len(narrow) > len(whole) and max(map(len, narrow)) <= 80
    assert {word for line in narrow for word in line.split()} <= {word for line in whole for word in line.split()}


def test_a_pipe_gets_a_line_for_every_row_whatever_its_length(dlkit, tmp_path):
    from PIL import Image

    import dlkit as package

    text = {
        "data": {"name": "digits", "limit": 64},
        "model": "small_cnn",
        "train": {"epochs": 1},
        "log": {"tensorboard": False},
    }
    run = package.train(text, out=tmp_path / "run")
    folder = tmp_path / ("a folder with a long name " * 6).strip()
    folder.mkdir()
    Image.new("L", (8, 8), 100).save(folder / "picture.png")
    lines = lines_of(dlkit("predict", run.model_path, folder / "picture.png").out)
    assert len(lines) == 2 and str(folder / "picture.png") in lines[1]
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("columns", [80, 100, None])
def test_rows_of_a_list_stand_alone_in_a_pipe_only(dlkit, columns):
    lines = lines_of(dlkit("list", "transforms", columns=columns).out)
    assert (len(lines) == int(lines[-1].split()[0]) + 3) is (columns is None)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_lines_on_a_terminal_are_broken_between_words(columns):
    from dlkit.cli.console import broken_between_words

    path = "/a/very/long/path/" * 12
    line = (
        f"  model.pt: float32, beside {path} and more words than a terminal of eighty columns has room for in one line"
    )
    parts = broken_between_words(line, columns)
    assert " ".join(" ".join(parts).split()) == " ".join(line.split())
    assert all(len(part) <= columns or path in part for part in parts) and parts[0].startswith("  model.pt")


@pytest.mark.parametrize(
    ("columns", "heading"), [(None, "chanterelle"), (200, "chanterelle"), (80, "chanterelle"), (40, "chanter")]
)
def test_headings_of_a_confusion_matrix_are_cut_only_where_room_is_short(dlkit, columns, heading, monkeypatch):
    from dlkit.cli.eval import _headings

    monkeypatch.setattr("dlkit.cli.console.terminal_width", lambda: columns)
    assert _headings(("chanterelle", "fly agaric", "porcini"))[0] == heading


def test_columns_that_are_wanted_least_give_way_on_a_narrow_terminal(dlkit, capsys, monkeypatch):
    import sys

    from dlkit.cli.console import show_table

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for width, shown in ((80, ["name", "first", "second"]), (30, ["name", "first"]), (20, ["name"])):
        monkeypatch.setenv("COLUMNS", str(width))
        show_table(("name", "first", "second"), [("model.pt", "1234567890", "0987654321")], optional=(2, 1))
        assert lines_of(capsys.readouterr().out)[0].split() == shown


def test_one_file_is_no_files(dlkit, tmp_path):
    from PIL import Image

    for name in ("cats", "dogs"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(8):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "images" / name / f"{index}.png")
    (tmp_path / "images" / "cats" / "notes.txt").write_text("no image")
    (tmp_path / "cfg.yaml").write_text("data: {name: imagefolder, path: ./images, image_size: 8}\nmodel: small_cnn\n")
    done = dlkit("train", tmp_path / "cfg.yaml", "--dry-run")
    assert done.code == 0 and "note: 1 file without an image's extension left out" in " ".join(done.err.split()), (
        done.err
    )


@pytest.mark.parametrize("columns", [40, None])
def test_tables_with_tabs_are_read_by_other_programs(dlkit, columns):
    kinds = [line for line in lines_of(dlkit("list", "--tsv", columns=columns).out) if "\t" in line]
    assert kinds[0] == "kind\tnames" and len(kinds) > 5 and all(line.split("\t")[1].isdecimal() for line in kinds[1:])
    rows = dlkit("--tsv", "list", "losses", columns=columns).out.splitlines()
    assert {line.count("\t") for line in rows if "\t" in line} == {rows[0].count("\t")} and "\x1b" not in rows[1]
    assert "\t" not in dlkit("list", columns=columns).out  # for this command alone


def test_cells_keep_no_tabs_and_no_control_characters():
    from dlkit.cli.console import tsv_table

    assert tsv_table(("a", "b"), [("x\ty", "1\n2\x1b[2J")]) == ["a\tb", "x y\t1 2?[2J"]


def test_another_total_is_another_piece_of_work():
    import io

    from rich.console import Console

    from dlkit.cli.console import WorkBar

    bar = WorkBar(Console(file=io.StringIO(), force_terminal=True, width=80))
    totals = []
    for done, total in ((0, 8), (3, 8), (9, 21)):
        bar.show("measuring", done, total)
        totals.append([(task.id, task.completed, task.total) for task in bar.progress.tasks])
    bar.stop()
    assert totals[0][0][0] == totals[1][0][0] != totals[2][0][0] and totals[2][0][1:] == (9, 21)
