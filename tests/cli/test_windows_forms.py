"""Files and names as they look when they come from Windows: lines that end in CRLF, drive letters, backslashes."""

import json

import pytest

ROWS = "a,b,y\r\n" + "".join(f"{index / 60},{index % 7},{'left' if index % 2 else 'right'}\r\n" for index in range(60))
CONFIG = "data:\r\n  name: csv\r\n  path: table.csv\r\n  target: y\r\nmodel: mlp\r\ntrain: {epochs: 1}\r\n"


def test_lines_that_end_in_crlf(dlkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_bytes(ROWS.encode())
    (tmp_path / "cfg.yaml").write_bytes(CONFIG.encode())
    done = dlkit("train", tmp_path / "cfg.yaml", "--out", tmp_path / "run", "-q")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["classes"] == ["left", "right"]
    assert (tmp_path / "run" / "config.yaml").read_bytes() == CONFIG.encode()


@pytest.mark.parametrize("path", [r"C:\data\pictures", r"\\server\share\pictures", "C:/data/pictures"])
def test_paths_with_drive_letters(dlkit, write_config, path):
    """They stand as they are, in a file and on the command line, and no part of them is taken for something else."""
    config = write_config(
        f"data: {{name: imagefolder, path: '{path}'}}\nmodel: {{name: '{path}.py:Net', weights: '{path}.pt'}}\n"
    )
    done = dlkit("config", "check", config, f"data.root={path}")
    assert done.code == 0 and f"model {path}.py:Net" in done.out, done.err
    shown = dlkit("config", "show", config, f"data.root={path}").out
    assert f"root: {path}" in shown and f"weights: {path}.pt" in shown


def test_a_backslash_in_double_quotes_is_explained(dlkit, write_config):
    done = dlkit("config", "check", write_config('data: {name: imagefolder, path: "C:\\data"}\nmodel: mlp\n'))
    assert done.code == 2 and "use single quotes" in done.err


def test_a_file_and_a_column_behind_a_drive_letter(dlkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / r"C:\metrics.csv").write_text("epoch,val_loss\n1,0.5\n2,0.4\n")
    done = dlkit(
        "lr-plot", "plateau", "--lr", "0.1", "--epochs", "2", "--metrics", r"C:\metrics.csv:val_loss", "--json"
    )
    assert done.code == 0, done.err
