import os
import subprocess
import sys

import pytest

from dlkit.core.training.folder import check_writable, create_run_folder, reopen_run_folder
from dlkit.errors import OutputError


def make(parent):
    try:
        return create_run_folder(out=None, parent=parent, name="x").path.name
    except OutputError as error:
        return str(error)


def test_numbers_go_on_after_the_highest(tmp_path):
    (tmp_path / "x-007").mkdir()
    (tmp_path / "x-old").mkdir()
    (tmp_path / "x-y-010").mkdir()
    assert make(tmp_path) == "x-008"


def test_eight_at_once_get_eight_folders(tmp_path):
    making = "import pathlib, sys\nfrom dlkit.core.training.folder import create_run_folder\n"
    making += "print(create_run_folder(out=None, parent=pathlib.Path(sys.argv[1]), name='x').path.name)"
    command = [sys.executable, "-c", making, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    names = [process.communicate()[0].strip() for process in processes]
    assert sorted(names) == [f"x-{number:03d}" for number in range(1, 9)]


def test_the_lock_is_held_and_let_go(tmp_path):
    folder = create_run_folder(out=tmp_path / "run", parent=tmp_path, name="x")
    with pytest.raises(OutputError, match=f"in use by another run .pid {os.getpid()}"):
        reopen_run_folder(tmp_path / "run")
    folder.release()
    reopen_run_folder(tmp_path / "run").release()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        create_run_folder(out=tmp_path / "file" / "run", parent=tmp_path, name="x")
    with pytest.raises(OutputError, match="cannot write here"):
        check_writable(tmp_path / "file" / "run")
    check_writable(tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()


def test_reopening_clears_what_a_killed_process_left(tmp_path):
    create_run_folder(out=tmp_path / "run", parent=tmp_path, name="x").release()
    (tmp_path / "run" / "checkpoints" / ".tmp-last.pt-abc").write_bytes(b"half")
    (tmp_path / "run" / "checkpoints" / "last.pt").write_bytes(b"whole")
    reopen_run_folder(tmp_path / "run").release()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.pt"]


def test_files_of_others_are_not_replaced(tmp_path):
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(OutputError, match=r"holds config\.yaml of something else"):
        create_run_folder(out=tmp_path, parent=tmp_path, name="x")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_checkpoints_of_others_are_not_replaced(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.pt").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"holds checkpoints/best\.pt of something else"):
        create_run_folder(out=tmp_path, parent=tmp_path, name="x")
    (tmp_path / ".lock").touch()  # a lock alone does not make it ours
    with pytest.raises(OutputError, match=r"holds checkpoints/best\.pt of something else"):
        create_run_folder(out=tmp_path, parent=tmp_path, name="x")
    assert (tmp_path / "checkpoints" / "best.pt").read_bytes() == b"mine"


def test_a_run_does_not_write_through_links(tmp_path):
    create_run_folder(out=tmp_path / "run", parent=tmp_path, name="x").release()
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "run" / "train.log").symlink_to(tmp_path / "notes")
    with pytest.raises(OutputError, match=r"train\.log is a link"):
        reopen_run_folder(tmp_path / "run")


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    (tmp_path / "run").mkdir()
    forks = f"""
import os, sys, pathlib
from dlkit.core.training.folder.run_folder import reopen_run_folder
folder = reopen_run_folder(pathlib.Path({str(tmp_path / "run")!r}))
if os.fork() == 0:
    print("ready", flush=True)
    sys.stdin.read()
else:
    os._exit(0)
"""
    with subprocess.Popen([sys.executable, "-c", forks], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.wait()
        reopen_run_folder(tmp_path / "run").release()


def test_a_folder_of_a_run_that_never_began_is_used(tmp_path):
    create_run_folder(out=tmp_path / "run", parent=tmp_path, name="x").release()
    (tmp_path / "run" / "train.log").touch()
    create_run_folder(out=tmp_path / "run", parent=tmp_path, name="x").release()
