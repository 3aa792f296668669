"""Several processes as a user meets them: `--nproc`, torchrun, signals, and what is said when something goes wrong."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import dlkit as package
from dlkit.core.training.folder import read_checkpoint
from dlkit.run_folders import PREDICTIONS_FILE, read_predictions

QUICK = """
data: {name: fake, num_samples: 400, shape: [1, 8, 8], num_classes: 4, batch_size: 16, test: 0.1}
model: {name: small_cnn, width: 4}
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
train: {epochs: 2}
log: {tensorboard: false}
"""
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.fixture
def quick(write_config):
    return write_config(QUICK)


def command(*arguments):
    return [sys.executable, "-m", "dlkit", "train", *map(str, arguments)]


def run(*arguments, environment=ENVIRONMENT, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=240, env=environment, **options)


def torchrun(*arguments, **options):
    line = [sys.executable, "-m", "torch.distributed.run", *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, **options)


def last_of(run_dir):
    return read_checkpoint(run_dir / "checkpoints" / "last.pt")


def wait_for(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.02)


def ranks_of(process, size=2):
    """The processes that `--nproc` or torchrun started, by rank: the former starts them in order, the latter's know theirs."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = {}

    def are_there():
        for index, pid in enumerate(children.read_text().split()):
            known = re.search(rb"\0RANK=(\d+)", b"\0" + Path(f"/proc/{pid}/environ").read_bytes())
            if known or "torch.distributed.run" not in process.args:
                found[int(known[1]) if known else index] = int(pid)
        return len(found) == size

    wait_for(are_there)
    return found


def start_long(quick, tmp_path, *more):
    """A run of two processes that has written a checkpoint, and its ranks."""
    line = command(quick, "--nproc", 2, "train.epochs=5000", "--out", tmp_path / "run", *more)
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    ranks = ranks_of(process)
    wait_for((tmp_path / "run" / "checkpoints" / "last.pt").exists)
    return process, ranks


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_two_processes_leave_one_run_that_goes_on_as_it_was(quick, tmp_path):
    done = run(quick, "--nproc", 2, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2/2") == 1 and "batch 16 x 2 processes = 32" in done.stderr
    assert done.stdout.count("model ") == 1 and "Warning" not in done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["processes"] == 2 and summary["images_per_s"] > 0 and 0 <= summary["test"]["accuracy"] <= 1
    assert [json.loads(line)["event"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()].count(
        "epoch"
    ) == 2
    kept = read_predictions(tmp_path / "run" / PREDICTIONS_FILE)
    assert kept.positions.tolist() == list(range(40)) and sorted(set(kept.numbers.tolist())) == kept.numbers.tolist()
    assert (kept.predicted == kept.targets).mean() == pytest.approx(summary["test"]["accuracy"], abs=1e-12)
    package.load_model(tmp_path / "run" / "model.pt")  # names without prefix
    names = set(torch.load(tmp_path / "run" / "model.pt", weights_only=True)["state_dict"])
    assert names == set(package.load_model(tmp_path / "run" / "model.pt").state_dict())

    refused = run(quick, "train.epochs=3", "--resume", tmp_path / "run", "--extend", "stretch")
    assert refused.returncode == 2 and "--nproc 2, or data.batch_size=32" in refused.stderr
    fewer = run(quick, "train.epochs=3", "data.batch_size=32", "--resume", tmp_path / "run", "--extend", "stretch")
    assert fewer.returncode == 0 and "trained by 2 before and by 1 now" in fewer.stderr
    more = run(
        quick,
        "train.epochs=4",
        "--nproc",
        2,
        "runtime.parallel=fsdp",
        "--resume",
        tmp_path / "run",
        "--extend",
        "stretch",
    )
    assert more.returncode == 0, more.stderr
    assert last_of(tmp_path / "run")["position"]["epoch"] == 4


def test_a_signal_to_one_process_stops_all_with_one_checkpoint(quick, tmp_path):
    process, ranks = start_long(quick, tmp_path)
    os.kill(ranks[1], signal.SIGTERM)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 143, errors
    assert errors.count("Go on with") == 1 and "Traceback" not in errors and "error" not in errors
    assert all(map(is_gone, ranks.values()))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    step = last_of(tmp_path / "run")["position"]["step"]
    offered = errors.split("Go on with: dlkit train ")[1].split()
    assert offered[-2:] == ["--nproc", "2"]
    goes_on = run(*offered, "--max-steps", step + 2, "--extend", "tail")
    assert goes_on.returncode == 0 and last_of(tmp_path / "run")["position"]["step"] == step + 2 > 2


def test_ctrl_c_is_passed_on_once(quick, tmp_path):
    process, _ = start_long(quick, tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130 and "saved. Go on with" in errors and "Traceback" not in errors


def test_when_the_starting_process_is_killed_the_others_save_and_end(quick, tmp_path):
    process, ranks = start_long(quick, tmp_path)
    process.kill()
    process.communicate(timeout=240)  # the pipes close when the last one is gone
    wait_for(lambda: all(map(is_gone, ranks.values())), 45)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all_and_the_run_goes_on_exactly(write_config, tmp_path, rank, same):
    """Dropout, batch norm and moving average differ between processes; each gets its own back."""
    layers = "[{conv: {out: 4, kernel: 3}}, batchnorm, relu, {dropout: 0.3}, flatten, {linear: auto}]"
    quick = write_config(QUICK.replace("{name: small_cnn, width: 4}", f"{{name: layers, layers: {layers}}}"))
    changes = ["train.epochs=6", "checkpoint.every_steps=1", "ema.decay=0.9", "--nproc", 2, "-q"]
    assert run(quick, *changes, "--out", tmp_path / "straight").returncode == 0
    process, ranks = start_long(quick, tmp_path, "train.epochs=6", *changes[1:3])
    os.kill(ranks[rank], signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert f"process {rank} of 2 was killed by SIGKILL" in errors and errors.count("error") == 1
    assert all(map(is_gone, ranks.values()))
    assert run(quick, *changes, "--out", tmp_path / "run", "--resume").returncode == 0
    first, second = last_of(tmp_path / "straight"), last_of(tmp_path / "run")
    for key in ("state_dict", "state_dict_ema", "optimizer", "processes", "position", "best"):
        assert same(first[key], second[key]), key


@pytest.mark.slow
def test_a_process_that_answers_no_more_ends_the_run(quick, tmp_path):
    process, ranks = start_long(quick, tmp_path, "runtime.timeout=4s")
    os.kill(ranks[1], signal.SIGSTOP)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 1 and "did not answer within 4 s" in errors and errors.count("error") == 1
    assert all(map(is_gone, ranks.values()))


FAILING = """
import os, torch
class Data(torch.utils.data.Dataset):
    def __init__(self, what="", train=True): self.what = what
    def __len__(self): return 64
    def __getitem__(self, index):
        if os.environ.get("RANK") == "1" and self.what == "raise": raise OSError("the disk is gone")
        if os.environ.get("RANK") == "1" and self.what == "exit": os._exit(7)
        value = torch.nan if os.environ.get("RANK") == "1" and self.what == "nan" else 1.0
        return torch.full((1, 8, 8), value), index % 2
"""


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("raise", 3, "process 1 of 2: .*OSError: the disk is gone"),
        ("nan", 5, "the loss is nan"),
        ("exit", 7, "process 1 of 2 ended with exit code 7"),
    ],
)
def test_what_goes_wrong_in_one_process_is_told_once(write_config, tmp_path, what, code, words):
    (tmp_path / "failing.py").write_text(FAILING)
    path = write_config(
        f"data: {{name: './failing.py:Data', what: '{what if what != 'nan' else ''}', batch_size: 8, cache: none, "
        "num_workers: 0, val: none, test: none, normalize: none}\nmodel: small_cnn\nlog: {tensorboard: false}\n"
    )
    if what == "nan":
        # only in training: the first batch of each process is looked at before
        code_text = FAILING.replace('self.what == "nan" else', "index > 20 else")
        (tmp_path / "failing.py").write_text(code_text)
    done = run(path, "--nproc", 2, "--out", tmp_path / "run")
    assert done.returncode == code, done.stderr
    assert re.search(words, done.stderr) and done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "model.pt").exists()


def test_mistakes_in_the_config_are_told_once_before_anything_starts(quick, tmp_path):
    typo = run(quick, "--nproc", 2, "optimizer.lrr=0.1")
    assert typo.returncode == 2 and typo.stderr.count("lrr") <= 2 and "Did you mean 'lr'" in typo.stderr
    many = run(quick, "--nproc", 3, "data.limit=2", "data.val=none", "--out", tmp_path / "run")
    assert many.returncode == 2 and "3 processes for 2 training samples" in many.stderr
    assert many.stderr.count("error:") == 1 and not (tmp_path / "run").exists()


def test_parameters_without_gradient_are_explained(write_config, tmp_path):
    net = Path(__file__).resolve().parent.parent / "core" / "distributed" / "net64.py"
    path = write_config(QUICK.replace("{name: small_cnn, width: 4}", f"{{name: '{net}:HalfUsed'}}"))
    done = run(path, "--nproc", 2, "--out", tmp_path / "run")
    assert done.returncode == 2 and "runtime.find_unused_parameters=true" in done.stderr
    allowed = run(path, "--nproc", 2, "runtime.find_unused_parameters=true", "--out", tmp_path / "other")
    assert allowed.returncode == 0, allowed.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "model={name: layers, layers: [{swish: {learnable: true}}, flatten, {linear: auto}]}",
            "a single number; use ddp",
        ),
        ("train.compile=true", "does not go with runtime.parallel: fsdp"),
    ],
)
def test_what_cannot_be_cut_is_refused(quick, tmp_path, change, words):
    done = run(quick, "--nproc", 2, "runtime.parallel=fsdp", change, "--out", tmp_path / "run")
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("error:") == 1, done.stderr
    assert not (tmp_path / "run").exists()


def test_lr_scale_and_dry_run(quick):
    done = run(quick, "--nproc", 2, "--dry-run", "optimizer.lr_scale=linear", "schedule=constant")
    assert done.returncode == 0, done.stderr
    assert "learning rate 0.05 x 2 = 0.1" in done.stderr and re.search(r"learning rate +0\.1\n", done.stdout)
    assert re.search(r"steps +\d+ per epoch", done.stdout) and done.stdout.count("Nothing was written.") == 1
    shown = run(quick, "--nproc", 2, "--print-config")
    assert shown.returncode == 0 and shown.stdout.count("optimizer:") == 1


def test_overfit_counts_batches_of_all_processes(quick, tmp_path):
    done = run(quick, "--nproc", 2, "--overfit", 3, "train.epochs=1", "--out", tmp_path / "run", "runtime.threads=1")
    assert done.returncode == 0, done.stderr
    last = last_of(tmp_path / "run")["position"]
    assert (last["step"], last["samples"]) == (3, 3 * 16 * 2)


def test_nproc_under_torchrun_is_an_error(dlkit, quick, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    done = dlkit("train", quick, "--nproc", 2)
    assert done.code == 2 and "leave --nproc away under torchrun" in done.err


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "2"}, "RANK and LOCAL_RANK is not set"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE is 'two'; a whole number is needed"),
        ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"}, "these do not fit together: RANK=2, WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "MASTER_ADDR and MASTER_PORT is not set"),
    ],
)
def test_variables_that_make_no_sense(dlkit, quick, monkeypatch, variables, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = dlkit("train", quick)
    assert done.code == 2 and words in done.err and done.err.count("error:") == 1


def place(rank, port, size=2):
    values = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return ENVIRONMENT | {name: str(value) for name, value in values.items()}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_port_in_use_and_a_process_that_never_comes(quick, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        busy = run(quick, "runtime.timeout=5s", "--out", tmp_path / "run", environment=place(0, port))
    assert busy.returncode == 2 and f"127.0.0.1:{port} is in use by another program" in busy.stderr
    lonely = run(quick, "runtime.timeout=3s", "--out", tmp_path / "run", environment=place(0, free_port()))
    assert lonely.returncode == 2 and "waited 3 s" in lonely.stderr and "Were all 2 started" in lonely.stderr
    assert not (tmp_path / "run").exists()


def test_processes_that_differ_are_told_apart(quick, tmp_path):
    port = free_port()
    changes = [["optimizer.lr=0.05"], ["optimizer.lr=0.06"]]
    processes = [
        subprocess.Popen(
            command(quick, *changes[rank], "--out", tmp_path / "run"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=place(rank, port),
        )
        for rank in range(2)
    ]  # fmt: skip
    errors = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    assert "the config of rank 0 says 'lr: 0.05', that of rank 1 'lr: 0.06'" in errors[0]


@pytest.mark.slow
def test_two_nodes_by_torchrun_train_the_digits_as_nproc_does(tmp_path, same):
    port, changes = free_port(), ["train.epochs=3", "runtime.threads=1", "log.tensorboard=false"]
    digits = Path(__file__).resolve().parent.parent.parent / "examples" / "digits.yaml"
    nodes = [
        torchrun("--nnodes", 2, "--node-rank", rank, "--master-addr", "127.0.0.1", "--master-port", port,
                 "--nproc-per-node", 1, "-m", "dlkit", "train", digits, *changes, "--out", tmp_path / "nodes")
        for rank in range(2)
    ]  # fmt: skip
    ends = [node.communicate(timeout=240) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], ends
    assert "64 x 2 processes" in ends[0][1] and "model " in ends[0][0] and "model " not in ends[1][0]
    assert run(digits, *changes, "--nproc", 2, "--out", tmp_path / "nproc").returncode == 0
    first, second = last_of(tmp_path / "nodes"), last_of(tmp_path / "nproc")
    for key in ("state_dict", "optimizer", "best", "processes"):
        assert same(first[key], second[key]), key


RESTARTED = ["train.epochs=25", "data.num_samples=160", "checkpoint.every_steps=1", "runtime.threads=1"]


@pytest.mark.slow
def test_torchrun_restarts_and_the_run_goes_on_in_its_folder(quick, tmp_path):
    changes = [*RESTARTED, f"runtime.out={tmp_path / 'runs'}"]
    process = torchrun(
        "--standalone", "--nproc-per-node", 2, "--max-restarts", 2, "-m", "dlkit", "train", quick, *changes
    )
    folder = tmp_path / "runs" / "cfg-001"
    wait_for((folder / "checkpoints" / "last.pt").exists, 120)
    ranks = ranks_of(process)
    os.kill(ranks[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cfg-001"]
    assert "resumed at step" in errors and last_of(folder)["position"]["epoch"] == 25
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [str(epoch) for epoch in range(1, 26)]


@pytest.mark.slow
def test_a_machine_that_fails_lets_all_start_anew_in_the_folder_of_the_run(quick, tmp_path):
    port, changes = free_port(), RESTARTED
    agents = [
        torchrun("--nnodes", 2, "--nproc-per-node", 1, "--max-restarts", 2, "--rdzv-backend", "c10d", "--rdzv-id", "birds",
                 "--rdzv-endpoint", f"127.0.0.1:{port}", "-m", "dlkit", "train", quick, *changes,
                 f"runtime.out={tmp_path / 'runs'}")
        for _ in range(2)
    ]  # fmt: skip
    folder = tmp_path / "runs" / "cfg-001"
    wait_for((folder / "checkpoints" / "last.pt").exists, 120)
    by_rank = {rank: pid for agent in agents for rank, pid in ranks_of(agent, 1).items()}
    os.kill(by_rank[1], signal.SIGKILL)  # the agent of rank 0 counts no failure of its own
    ends = [agent.communicate(timeout=240) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], ends
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cfg-001"]
    assert any("resumed at step" in errors for _, errors in ends) and last_of(folder)["position"]["epoch"] == 25
