"""Where files may be written: over files of one's own, never over links, devices and pipes."""

import os
import stat

import pytest
import torch

from dlkit.core.staging import staged
from dlkit.errors import OutOfResource, OutputError
from dlkit.files import check_output, link_file, write_bytes, write_text


@pytest.fixture
def odd(tmp_path):
    """A pipe, a link to a file, a link to a device and a link to nothing, by name."""
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "kept.pt").write_text("kept")
    for name, target in {"link.pt": "kept.pt", "device.pt": "/dev/full", "nothing.pt": "nowhere.pt"}.items():
        (tmp_path / name).symlink_to(target)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pipe.pt", "a device or a pipe"),
        ("link.pt", "a link, to kept.pt"),
        ("device.pt", "to /dev/full"),
        ("nothing.pt", "a link"),
    ],
)
def test_what_is_no_file_of_its_own_is_never_an_output(odd, name, words):
    for may_replace in (True, False):
        with pytest.raises(OutputError, match=words):
            check_output(odd / name, may_replace=may_replace)


def test_a_pipe_is_not_replaced_even_at_the_end(odd):
    pipe = odd / "pipe.pt"
    for write in (lambda: write_bytes(pipe, b"x"), lambda: link_file(odd / "kept.pt", pipe)):
        with pytest.raises(OutputError, match="a device or a pipe"):
            write()
    with pytest.raises(OutputError, match="a device or a pipe"), staged(pipe) as staging:
        staging.path(pipe).write_text("new")
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and (odd / "kept.pt").read_text() == "kept"


def test_the_target_of_a_link_stays(odd):
    write_text(odd / "link.pt", "new")
    assert (odd / "kept.pt").read_text() == "kept"


@pytest.mark.parametrize("name", ["pipe.pt", "link.pt", "device.pt"])
def test_commands_leave_them_alone(dlkit, odd, name):
    """Those that write a file, each with its own option, also with --force."""
    weights, model, plot = odd / "weights.pt", odd / name, odd / "plot.csv"
    torch.save({"0.weight": torch.zeros(2, 2)}, weights)
    before = model.lstat().st_ino
    for command in (("convert", weights, model, "--force"), ("config", "schema", "-o", model)):
        assert dlkit(*command).code == 2, command
    model.rename(plot)
    assert dlkit("lr-plot", "cosine", "--lr", "0.1", "--epochs", "2", "--steps-per-epoch", "5", "-o", plot).code == 2
    assert plot.lstat().st_ino == before and (odd / "kept.pt").read_text() == "kept"


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\udcff"])
def test_names_that_the_system_refuses(tmp_path, name):
    path = tmp_path / name / "file"
    with pytest.raises(OutputError):
        check_output(path, may_replace=True)


def test_names_that_are_not_unicode_are_written_as_escapes(tmp_path):
    write_text(tmp_path / "facts.json", '{"path": "a\udcffb"}')
    assert (tmp_path / "facts.json").read_text(encoding="utf-8") == '{"path": "a\\udcffb"}'


def test_a_failing_disk_is_no_fault_of_ours(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("dlkit.disk.write", fail)
    with pytest.raises(OutOfResource, match="Input/output error"):
        write_bytes(tmp_path / "file", b"x")
    assert not list(tmp_path.iterdir())
