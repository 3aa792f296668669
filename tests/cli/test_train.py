"""`dlkit train` as a user meets it: what it leaves behind, how it resumes, what it says when something is wrong."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest
import torch

import dlkit as package
from dlkit.core.training.folder import read_checkpoint
from dlkit.schedules import LearningRate, build_schedule

QUICK = """
data: {name: fake, num_samples: 160, shape: [1, 8, 8], num_classes: 4, batch_size: 16}
model: {name: small_cnn, width: 4}
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
schedule: {name: cosine, warmup: 4}
train: {epochs: 3}
log: {tensorboard: false}
"""


@pytest.fixture
def quick(write_config):
    return write_config(QUICK)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_run_folder_holds_what_the_docs_say(dlkit, quick, tmp_path):
    done = dlkit("train", quick, "--out", tmp_path / "run", "log.tensorboard=true", "log.images=3")
    assert done.code == 0, done.err
    run = tmp_path / "run"
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "config.resolved.yaml", "run.json", "metrics.jsonl", "metrics.csv", "summary.json"} <= names
    assert {"train.log", "checkpoints", "model.pt", "tb"} <= names
    assert (run / "config.yaml").read_text() == QUICK
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.pt", "best.pt"}
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert (
        summary["test"]["accuracy"] == json.loads(dlkit("eval", run / "model.pt", "--json").out)["metrics"]["accuracy"]
    )
    assert summary["best"]["metric"] == "val_accuracy" and summary["images_per_s"] > 0
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"] and all(row["val_loss"] for row in rows)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert "epoch 3/3" in (run / "train.log").read_text()
    assert "model" in done.out and "dlkit eval" in done.out


def test_tensorboard_holds_scalars_graph_hparams_and_images(dlkit, quick, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    dlkit("train", quick, "--out", tmp_path / "run", "log.tensorboard=true", "log.images=3")
    board = EventAccumulator(str(tmp_path / "run" / "tb"), size_guidance={"images": 0})
    board.Reload()
    tags = board.Tags()
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "train/loss_step"} <= set(tags["scalars"])
    assert "final/test_accuracy" in tags["scalars"] and tags["graph"] and "train/images" in tags["images"]
    assert len(board.Scalars("lr")) == 3 * 9


def test_model_file_reloads_in_a_fresh_process_with_the_same_outputs(dlkit, quick, tmp_path):
    dlkit("train", quick, "--out", tmp_path / "run")
    path = tmp_path / "run" / "model.pt"
    inputs = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.save(package.load_model(path)(inputs), tmp_path / "outputs.pt")
    code = f"""
import torch, dlkit
inputs = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
assert torch.equal(dlkit.load_model({str(path)!r})(inputs), torch.load({str(tmp_path / "outputs.pt")!r}))
raw = torch.load({str(path)!r}, weights_only=True)
assert raw["format"] == "dlkit.model" and set(raw) == {{"format", "version", "spec", "state_dict"}}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lr_column_equals_the_schedule_and_torch(dlkit, quick, tmp_path):
    """Step by step: warm-up then cosine, with plain SGD in torch's own classes beside it."""
    dlkit("train", quick, "--out", tmp_path / "run")
    steps = [line for line in lines_of(tmp_path / "run" / "metrics.jsonl") if line["event"] == "step"]
    assert [line["step"] for line in steps] == list(range(27))
    ours = LearningRate(
        build_schedule("cosine", {}, warmup_steps=4, warmup_from=0.01, total_steps=27, steps_per_epoch=9), [0.05]
    )
    assert [line["lr"] for line in steps] == [ours.lrs(step)[0] for step in range(27)]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=23)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[4])
    for line in steps:
        assert line["lr"] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("changes", [[], ["data.cache=none", "data.num_workers=2"], ["train.accumulate=3"]], ids=str)
def test_killed_and_resumed_equals_straight_through(quick, tmp_path, changes, same):
    """SIGKILL in the middle, `--resume`, and the end is the same bits; metrics hold each step once."""
    command = [
        sys.executable,
        "-m",
        "dlkit",
        "train",
        str(quick),
        "checkpoint.every_steps=1",
        "ema.decay=0.9",
        "train.epochs=6",
        *changes,
    ]
    subprocess.run([*command, "--out", str(tmp_path / "a"), "-q"], check=True, capture_output=True)
    victim = subprocess.Popen(
        [*command, "--out", str(tmp_path / "b"), "-q"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    last = tmp_path / "b" / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 240
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    subprocess.run([*command, "--out", str(tmp_path / "b"), "--resume", "-q"], check=True, capture_output=True)
    first, second = (read_checkpoint(tmp_path / name / "checkpoints" / "last.pt") for name in "ab")
    for key in ("state_dict", "optimizer", "state_dict_ema", "random"):
        assert same(first[key], second[key]), key
    one, two = ([strip(line) for line in lines_of(tmp_path / name / "metrics.jsonl")] for name in "ab")
    assert one == two
    rows = (tmp_path / "b" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 7 and rows[0].startswith("epoch,step,lr")


def strip(line):
    return {name: value for name, value in line.items() if name != "train_s"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_exits_with_its_code(quick, tmp_path, number, code):
    command = [sys.executable, "-m", "dlkit", "train", str(quick), "train.epochs=2000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 240
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == code, errors
    assert "Traceback" not in errors and "error" not in errors
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    step = read_checkpoint(last)["position"]["step"]
    offered = errors.split("Go on with: dlkit ")[1].split()
    goes_on = [sys.executable, "-m", "dlkit", *offered, "--max-steps", str(step + 2), "--extend", "tail"]
    assert subprocess.run(goes_on, capture_output=True).returncode == 0
    assert read_checkpoint(last)["position"]["step"] == step + 2 > 2


def read_one_byte(*arguments, **options):
    """Run a command whose reader goes away after the first byte, as `head -c 1` does; its exit code, and stderr if that is a pipe."""
    command = [sys.executable, "-m", "dlkit", "train", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, **options) as process:
        assert process.stdout.read(1)
        process.stdout.close()
        errors = process.stderr.read().decode() if process.stderr else ""
    return process.returncode, errors


def test_a_closed_pipe_does_not_end_the_run(quick, tmp_path):
    code, _ = read_one_byte(quick, "--out", tmp_path / "run", "--json", stderr=subprocess.STDOUT)
    assert code == 0 and json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"


def test_json_into_head_is_no_failure_and_leaves_the_table_alone(quick, tmp_path):
    code, errors = read_one_byte(quick, "--out", tmp_path / "run", "--json", stderr=subprocess.PIPE)
    assert code == 0 and "3/3" in errors


def test_a_closed_stdout_is_no_failure(quick, tmp_path):
    shell = f"{sys.executable} -m dlkit train {quick} --max-steps 1 --out {tmp_path / 'run'} >&- 2>&-"
    assert subprocess.run(["bash", "-c", shell]).returncode == 0
    assert (tmp_path / "run" / "model.pt").exists()


def test_a_full_disk_under_stdout_is_said_and_is_exit_6():
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m dlkit list models --json >/dev/full"], capture_output=True
    )
    assert done.returncode == 6 and done.stderr == b"error: the output cannot be written: No space left on device\n"


def test_resume_into_another_folder_is_refused(dlkit, quick, tmp_path):
    dlkit("train", quick, "--out", tmp_path / "run", "--max-steps", "2")
    other = dlkit("train", quick, "--resume", tmp_path / "run", "--out", tmp_path / "other")
    assert other.code == 2 and "--out" in other.err and not (tmp_path / "other").exists()
    again = ["--resume", tmp_path / "run", "--out", tmp_path / "run"]
    assert dlkit("train", quick, *again, "--max-steps", "2").code == 0
    longer = dlkit("train", quick, *again)
    assert (
        longer.code == 2
        and "train.max_steps: 2 in the checkpoint, not set now" in longer.err
        and "--extend tail" in longer.err
    )
    assert dlkit("train", quick, *again, "--extend", "tail").code == 0
    alone = dlkit("train", quick, "--extend", "tail")
    assert alone.code == 2 and "--extend goes with --resume" in alone.err


def test_resuming_a_finished_run_says_so(dlkit, quick, tmp_path):
    dlkit("train", quick, "--out", tmp_path / "run")
    again = dlkit("train", quick, "--out", tmp_path / "run", "--resume")
    assert again.code == 0 and len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 4


def test_resume_with_another_config_is_refused(dlkit, quick, tmp_path):
    dlkit("train", quick, "--out", tmp_path / "run")
    other = dlkit("train", quick, "--out", tmp_path / "run", "--resume", "data.batch_size=32", "seed=3")
    assert "--resume-relaxed" in other.err
    assert other.code == 2 and "data.batch_size: 16 in the checkpoint, 32 now" in other.err and "seed" in other.err


def test_an_unfinished_run_can_be_given_more_epochs(dlkit, quick, tmp_path):
    dlkit("train", quick, "--out", tmp_path / "run")
    more = dlkit("train", quick, "--resume", tmp_path / "run", "train.epochs=5", "--extend", "stretch")
    assert more.code == 0 and "train.epochs was 3 and is 5" in more.err
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 6


def test_a_run_that_max_steps_cut_short_goes_on_in_the_middle_of_the_epoch(dlkit, quick, tmp_path):
    dlkit("train", quick, "--out", tmp_path / "run", "--max-steps", 5)
    again = dlkit("train", quick, "--resume", tmp_path / "run", "--max-steps", 5)
    assert again.code == 0 and len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 2
    assert dlkit("train", quick, "--resume", tmp_path / "run", "--extend", "stretch").code == 0
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["9", "18", "27"]


def test_the_next_commands_fit_what_was_trained(dlkit, quick, write_config, tmp_path):
    done = dlkit("train", quick, "--out", tmp_path / "my run", "--max-steps", 1)
    assert f"dlkit predict '{tmp_path / 'my run' / 'model.pt'}'" in done.out and "tensorboard" not in done.out
    assert "1 step\n" in done.err
    (tmp_path / "rows.csv").write_text("x,y\n" + "".join(f"{row},{row / 7}\n" for row in range(30)))
    rows = write_config("data: {name: csv, path: ./rows.csv, target: y}\nmodel: mlp", name="rows.yaml")
    done = dlkit("train", rows, "--out", tmp_path / "rows", "--max-steps", 1)
    assert "rmse" in done.out and "confusion" not in done.out and "predict" not in done.out
    assert "tensorboard --logdir" in done.out


def test_a_used_folder_is_not_used_again(dlkit, quick, tmp_path):
    dlkit("train", quick, "--out", tmp_path / "run")
    again = dlkit("train", quick, "--out", tmp_path / "run")
    assert again.code == 2 and "holds a run already; continue it with --resume" in again.err


def test_numbered_folders(dlkit, quick, tmp_path):
    for _ in range(2):
        assert dlkit("train", quick, "--max-steps", 2, "--name", "x", f"runtime.out={tmp_path / 'runs'}").code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["x-001", "x-002"]


def test_resolved_config_repeats_the_run(dlkit, quick, tmp_path, same):
    dlkit("train", quick, "--out", tmp_path / "a")
    done = dlkit("train", tmp_path / "a" / "config.resolved.yaml", "--out", tmp_path / "b")
    assert done.code == 0, done.err
    first, second = (read_checkpoint(tmp_path / name / "checkpoints" / "last.pt")["state_dict"] for name in "ab")
    assert same(first, second)


def test_print_config_has_no_auto_left_that_matters(dlkit, quick, tmp_path):
    shown = dlkit("train", quick, "--print-config")
    assert shown.code == 0
    for text in ("num_classes: 4", "in_channels: 1", "cross_entropy", "val_accuracy", "device: cpu"):
        assert text in shown.out, text
    path = tmp_path / "shown.yaml"
    path.write_text(shown.out)
    assert dlkit("config", "check", path).code == 0


def test_dry_run_writes_nothing(dlkit, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    dry = dlkit("train", quick, "--dry-run")
    assert dry.code == 0 and sorted(tmp_path.rglob("*")) == before
    for text in (
        "small_cnn",
        "144 train, 16 val, 40 test",
        "9 per epoch, 27 in all",
        "0.0005 first, 0.05 peak",
        "Nothing was written",
    ):
        assert text in dry.out, (text, dry.out)


def test_overfit_learns_its_batches_by_heart(dlkit, quick, tmp_path):
    done = dlkit("train", quick, "--overfit", 2, "train.epochs=40", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["train_accuracy"]) == 1.0 and rows[0]["step"] == "2"


def test_overfit_leaves_out_what_would_change_its_batches(dlkit, write_config):
    text = QUICK.replace("batch_size: 16}", "batch_size: 16, KEYS}") + "checkpoint: {average: 2}\n"
    for keys in ("sampling: balanced", "repeats: 3, batch_transforms: [mixup], mixing: {p: 0.5}"):
        done = dlkit("train", write_config(text.replace("KEYS", keys)), "--overfit", 2, "--dry-run")
        assert done.code == 0 and "32 train" in done.out, done.err


def test_json_is_one_object_per_line(dlkit, quick, tmp_path):
    done = dlkit("train", quick, "--out", tmp_path / "run", "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["event"] for event in events] == ["epoch"] * 3 + ["test", "result"]
    assert all(event["schema"] == "dlkit.train/1" for event in events)
    assert events[-1]["test"]["accuracy"] == events[-2]["metrics"]["accuracy"]


@pytest.mark.parametrize("command", ["train", "train --dry-run", "lr-find --steps 20 --repeats 1"])
def test_what_ones_own_code_prints_is_no_result(dlkit, write_config, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(CHATTY)
    done = dlkit(*command.split(), write_config(QUICK), "model=./nets.py:Chatty", "--json")
    assert done.code == 0, done.err
    assert all(json.loads(line)["schema"].startswith("dlkit.") for line in done.out.splitlines())
    assert "hello" in done.err


CHATTY = """
import torch.nn as nn

class Chatty(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))

    def forward(self, inputs):
        print("hello")
        return super().forward(inputs)
"""


def test_quiet_says_only_the_result(dlkit, quick, tmp_path):
    done = dlkit("train", quick, "--out", tmp_path / "run", "-q")
    assert done.err == "" and "model" in done.out


def test_divergence_exits_5_and_keeps_finite_weights(dlkit, quick, tmp_path):
    done = dlkit(
        "train", quick, "--out", tmp_path / "run", "optimizer.lr=1e30", "checkpoint.every_steps=1", "schedule.warmup=0"
    )
    assert done.code == 5 and ("not finite" in done.err or "the loss is" in done.err)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "diverged"
    kept = tmp_path / "run" / "checkpoints" / "last.pt"
    if kept.exists():
        assert all(value.isfinite().all() for value in read_checkpoint(kept)["state_dict"].values())


def test_max_time_stops_and_can_be_resumed(dlkit, quick, tmp_path):
    done = dlkit("train", quick, "--out", tmp_path / "run", "train.epochs=100000", "train.max_time=1s")
    assert done.code == 0 and "time is up" in done.out
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "max_time"


def test_early_stop(dlkit, quick, tmp_path):
    options = ["train.epochs=50", "train.early_stop.patience=2", "train.early_stop.min_delta=1000"]
    done = dlkit("train", quick, "--out", tmp_path / "run", *options)
    assert done.code == 0 and "stopped early after epoch 3" in done.out


def test_from_python(tmp_path):
    values = {
        "data": {"name": "fake", "num_samples": 64},
        "model": {"name": "small_cnn", "width": 4},
        "train": {"epochs": 1},
    }
    result = package.train(values | {"log": {"tensorboard": False}}, out=tmp_path / "run")
    assert result.status == "finished" and result.model_path.exists() and len(result.history) == 1


@pytest.mark.parametrize(
    "changes",
    [
        ["train.clip.norm=1.0"], ["train.clip.value=0.1"], ["train.amp=bf16"], ["train.channels_last=true"], ["ema={decay: 0.9}"],
        ["train.gradient_checkpointing=true"], ["train.gradient_checkpointing=[features.*]"], ["loss.label_smoothing=0.1"],
        ["loss.name=mse"], ["loss.class_weights=balanced"], ["optimizer.groups=[{match: fc.*, lr_mult: 10}]"],
        ["schedule=plateau"], ["schedule={name: CyclicLR, base_lr: 0.01}"], ["data.batch_transforms=[mixup]"],
        ["schedule={name: 'torch.optim.lr_scheduler:ExponentialLR', gamma: 0.9, unit: epoch}", "~schedule.warmup"],
        ["data.batch_transforms=[cutmix]"], ["data.val=none"], ["data.val=test"], ["eval.tta=true"], ["eval.every=2"],
        ["model=resnet18"], ["model=mlp"], ["model=lstm"], ["runtime.deterministic=true"], ["runtime.threads=1"],
        ["optimizer=adam"], ["optimizer=rmsprop"], ["optimizer=Adagrad"], ["data.drop_last=true"], ["train.on_nan=skip"],
    ],
    ids=lambda changes: changes[0],
)  # fmt: skip
def test_every_option_trains(dlkit, quick, tmp_path, changes):
    if changes[0].startswith(("optimizer=", "schedule={")):
        text = (
            QUICK.replace("schedule: {name: cosine, warmup: 4}\n", "") if changes[0].startswith("schedule={") else QUICK
        )
        text = text.replace("optimizer: {name: sgd, lr: 0.05, momentum: 0.9}", "optimizer: sgd")
        quick.write_text(text)
    done = dlkit("train", quick, "--out", tmp_path / "run", "train.epochs=2", *changes)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "model.pt").exists()


def test_a_checkpoint_of_before_a_config_key_goes_on(dlkit, quick, tmp_path):
    """Keys that are new since then have their defaults."""
    dlkit("train", quick, "--out", tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    state = torch.load(path, weights_only=True)
    del state["config"]["optimizer"]["lr_scale"], state["config"]["train"]["sync_bn"]
    torch.save(state, path)
    done = dlkit("train", quick, "train.epochs=4", "--resume", tmp_path / "run", "--extend", "stretch")
    assert done.code == 0, done.err
    refused = dlkit("train", quick, "train.epochs=4", "train.sync_bn=true", "--resume", tmp_path / "run")
    assert refused.code == 2 and "train.sync_bn" in refused.err


POINTS = """
import numpy as np
import torch


class Points:
    def __init__(self, train, left=255, every=5):
        self.size, self.left, self.every, self.seed = (240 if train else 60), left, every, 1000 * train

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        x = np.random.default_rng(index + self.seed).normal(size=4).astype("float32")
        return torch.from_numpy(x), self.left if index % self.every == 0 else int(x[:3].argmax())
"""
IGNORING = """
data: {name: "./ds.py:Points", batch_size: 4, val: test}
model: {name: mlp, hidden: [8]}
optimizer: {name: adamw, lr: 0.05}
loss: {name: cross_entropy, ignore_index: 255}
train: {epochs: 2}
log: {tensorboard: false}
"""


@pytest.mark.parametrize("options", [(), ("train.accumulate=3", "loss.class_weights=balanced"), ("data.every=2",)])
def test_ignored_labels_count_nowhere(dlkit, write_config, tmp_path, options):
    """Every fifth label is none of the three classes: batches of 4, some of them ignored in part."""
    (tmp_path / "ds.py").write_text(POINTS)
    config = write_config(IGNORING)
    done = dlkit("train", config, "--out", tmp_path / "run", *options)
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    data = ("--data", tmp_path / "run" / "config.resolved.yaml")
    found = dlkit("eval", tmp_path / "run" / "model.pt", *data, "--json")
    assert found.code == 0, found.err
    scores = json.loads(found.out)
    counted = 30 if options == ("data.every=2",) else 48
    assert sum(row["support"] for row in scores["per_class"]) == sum(map(sum, scores["confusion"])) == counted
    right = sum(scores["confusion"][index][index] for index in range(3))
    assert scores["metrics"]["accuracy"] == pytest.approx(right / counted)
    assert scores["metrics"]["accuracy"] == pytest.approx(summary["best"]["value"]) and len(scores["classes"]) == 3


def test_an_ignored_class_of_a_table_goes_by_its_number(dlkit, write_config, tmp_path):
    rows = [f"{index % 7},{index % 3},{(0, 1, 255)[index % 3]}" for index in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *rows]))
    data = f"data: {{name: csv, path: {tmp_path / 't.csv'}, target: y}}"
    config = write_config(IGNORING.replace(IGNORING.splitlines()[1], data))
    refused = dlkit("train", config, "--out", tmp_path / "run")
    assert refused.code == 2 and "255 is the name of a class of these data, whose number is 2" in refused.err
    assert dlkit("train", config, "--out", tmp_path / "run", "loss.ignore_index=2").code == 0


@pytest.mark.parametrize("more", [(), ("train.accumulate=5",)])
def test_labels_that_are_all_ignored_in_a_batch_change_nothing_but_by_decay(dlkit, write_config, tmp_path, more):
    (tmp_path / "ds.py").write_text(POINTS)
    done = dlkit("train", write_config(IGNORING), "--out", tmp_path / "run", "data.batch_size=1", *more)
    assert done.code == 0 and "nan" not in (tmp_path / "run" / "metrics.csv").read_text(), done.err


def test_a_label_that_is_no_class_names_the_option(dlkit, write_config, tmp_path):
    (tmp_path / "ds.py").write_text(POINTS.replace("class Points:", "class Points:\n    classes = ('a', 'b', 'c')"))
    config = write_config(IGNORING)
    refused = dlkit("train", config, "--out", tmp_path / "run", "~loss.ignore_index")
    assert refused.code == 3 and "has label 255 (loss.ignore_index: 255 leaves such samples out)" in refused.err
    refused = dlkit("train", config, "--out", tmp_path / "run", "data.left=7")
    assert refused.code == 3 and "labels must be 0..2" in refused.err
    refused = dlkit("train", config, "--out", tmp_path / "run", "data.batch_transforms=[mixup]")
    assert refused.code == 2 and "loss.ignore_index" in refused.err and not (tmp_path / "run").exists()


PLATEAU = "torch.optim.lr_scheduler:ReduceLROnPlateau"


def test_a_plateau_by_its_path_is_the_plateau(dlkit, quick, tmp_path):
    options = (
        "schedule.patience=0",
        "schedule.threshold=0.9",
        "schedule.cooldown=0",
        "train.epochs=4",
        "schedule.warmup=0",
    )
    rates = []
    for name in ("plateau", PLATEAU):
        done = dlkit("train", quick, "--out", tmp_path / name[-7:], f"schedule={name}", *options)
        assert done.code == 0, done.err
        rates.append([row["lr"] for row in lines_of(tmp_path / name[-7:] / "metrics.jsonl") if "epoch" in row])
    assert rates[0] == rates[1] and len(set(rates[0])) > 1
    assert (
        dlkit(
            "train",
            quick,
            "--resume",
            tmp_path / PLATEAU[-7:],
            f"schedule={PLATEAU}",
            *options,
            "train.epochs=5",
            "--extend",
            "stretch",
        ).code
        == 0
    )


@pytest.mark.parametrize("metric", ["val_accuracy", "train/loss"])
@pytest.mark.parametrize("name", ["plateau", PLATEAU])
def test_a_plateau_follows_any_metric_as_torch_does(dlkit, quick, tmp_path, name, metric):
    """Accuracies are better when they are higher, unless `mode` says otherwise."""
    options = {"threshold": 0.02, "threshold_mode": "abs", "cooldown": 1, "min_lr": 1e-4, "patience": 0, "factor": 0.3}
    settings = [f"schedule.{key}={value}" for key, value in options.items()]
    changes = (f"schedule={name}", f"schedule.metric={metric}", "schedule.warmup=0", "train.epochs=7", *settings)
    done = dlkit("train", quick, "--out", tmp_path / "run", *changes)
    assert done.code == 0, done.err
    table = csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines())
    rows = [{column: float(cell) for column, cell in row.items() if cell} for row in table]
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rows[0]["lr"])
    mode = "max" if metric == "val_accuracy" else "min"
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, mode=mode, **options)
    for row in rows:
        assert row["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
        theirs.step()
        scheduler.step(row[metric.replace("/", "_")])
    assert len({row["lr"] for row in rows}) > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("data.val=none",), "schedule.metric: this run has no metric 'val_loss'; it has train_loss"),
        (("schedule.metric=val_f2",), "schedule.metric: this run has no metric 'val_f2'; it has"),
        (("schedule.factor=2",), "cannot be built: Factor should be < 1.0"),
    ],
)
def test_a_plateau_by_its_path_is_refused_before_the_run(dlkit, quick, tmp_path, options, words):
    done = dlkit("train", quick, "--out", tmp_path / "run", f"schedule={PLATEAU}", "schedule.warmup=0", *options)
    assert done.code == 2 and words in " ".join(done.err.split()) and not (tmp_path / "run").exists()


def test_a_scheduler_that_raises_in_the_run_ends_it_with_a_sentence(dlkit, quick, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch.optim.lr_scheduler import ReduceLROnPlateau\n"
        "class Picky(ReduceLROnPlateau):\n"
        "    def step(self, metrics):\n"
        "        if metrics != 1.0:\n"
        "            raise RuntimeError('no such metric')\n"
    )
    name = f"schedule={tmp_path / 'mine.py'}:Picky"
    done = dlkit("train", quick, "--out", tmp_path / "run", name, "schedule.warmup=0")
    assert done.code == 2 and "Picky.step() fails after update" in done.err and "no such metric" in done.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_a_bare_resume_finds_runs_made_with_out(dlkit, write_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(QUICK)
    nothing = dlkit("train", config, "--resume")
    assert nothing.code == 2 and "--resume FOLDER" in nothing.err
    assert dlkit("train", config, "train.epochs=1").code == 0
    assert dlkit("train", config, "train.epochs=1", "--out", tmp_path / "there").code == 0
    assert dlkit("train", config, "train.epochs=1", "--out", tmp_path / "other", "name=another").code == 0
    with (tmp_path / "runs" / ".elsewhere.jsonl").open("a") as file:
        file.write('{"name": "cut')
    assert dlkit("train", config, "train.epochs=2", "--resume", "--extend", "stretch").code == 0
    epochs = {
        path.name: (path / "metrics.csv").read_text().count("\n") - 1
        for path in tmp_path.glob("*/")
        if path.name != "runs"
    }
    assert epochs == {"there": 2, "other": 1}
