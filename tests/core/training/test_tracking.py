import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

import dlkit as package
from dlkit.core.training import train
from dlkit.errors import ConfigError, UsageError
from dlkit.events import EpochDone, Note, RunEnded, StepsDone
from dlkit.run_folders import read_run

BASE = {
    "name": "tiny",
    "data": {"name": "digits", "limit": 60, "batch_size": 32},
    "model": {"name": "mlp", "hidden": [8]},
    "train": {"epochs": 2},
    "log": {"tensorboard": False},
}
TRACKER = """
import json
from pathlib import Path


def follow(run, path, fails=0):
    def tell(*words):
        with Path(path).open("a") as file:
            print(*words, file=file)

    tell(json.dumps({"name": run.name, "known_as": run.known_as, "lr": run.config["optimizer"]["lr"]}))
    run.remember("number 7")

    def take(event):
        tell(type(event).__name__, getattr(event, "status", ""))
        if fails:
            raise OSError("no more room")

    if fails > 1:
        raise OSError("no room")
    return take
"""


def config(**log):
    return BASE | {"log": BASE["log"] | log}


@pytest.fixture
def tracker(tmp_path):
    (tmp_path / "mine.py").write_text(TRACKER)
    return lambda **options: config(
        tracker={"name": f"{tmp_path}/mine.py:follow", "path": str(tmp_path / "told.txt")} | options
    )


def test_a_function_of_ones_own_follows_a_run(tracker, tmp_path):
    train(tracker(), out=tmp_path / "run")
    opened, *events = (tmp_path / "told.txt").read_text().splitlines()
    assert json.loads(opened) == {
        "name": "tiny",
        "known_as": None,
        "lr": read_run(tmp_path / "run").settings["optimizer.lr"],
    }
    events = [event.strip() for event in events if not event.startswith(("Progress", "Evaluating", "Note", "Saved"))]
    assert events == ["RunStarted", "StepsDone", "EpochDone", "StepsDone", "EpochDone", "Tested", "RunEnded finished"]
    train(tracker(), out=tmp_path / "run", resume=tmp_path / "run")
    again = [line for line in (tmp_path / "told.txt").read_text().splitlines() if line.startswith("{")][1]
    assert json.loads(again)["known_as"] == "number 7"


def test_what_a_tracker_raises_stops_nothing_once_the_run_has_begun(tracker, tmp_path):
    events = []
    result = train(tracker(fails=1), out=tmp_path / "run", emit=events.append)
    notes = [event.text for event in events if isinstance(event, Note) and "no more room" in event.text]
    assert (
        result.status == "finished"
        and len(notes) == 1
        and notes[0].endswith("the run goes on, and its folder has everything")
    )
    with pytest.raises(OSError, match="no room"):
        train(tracker(fails=2), out=tmp_path / "other")


def test_wrong_trackers_are_told_with_their_place(tracker, tmp_path):
    with pytest.raises(ConfigError, match=r"log\.tracker\.pth: unknown key for follow"):
        train(tracker(pth="x"), out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"log\.tracker\.name: a tracker is a function of your own"):
        train(config(tracker="wandb"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# a real server


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """An MLflow server on this machine, with its data base and files in a folder."""

    def __init__(self, folder, port):
        self.folder, self.port, self.uri = folder, port, f"http://127.0.0.1:{port}"

    def start(self):
        places = [
            "--backend-store-uri",
            f"sqlite:///{self.folder}/runs.db",
            "--artifacts-destination",
            f"{self.folder}/files",
        ]
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--workers",
            "1",
        ]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *places],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PYTHONWARNINGS": ""},
            )
        deadline = time.monotonic() + 180
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("flask") is None:
        pytest.skip("needs an MLflow server: pip install 'dlkit[mlflow-server]'")
    server = Server(tmp_path_factory.mktemp("mlflow"), free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=server.uri)


def run_of(client, folder):
    return client.get_run(read_run(folder).facts["trackers"]["mlflow"])


def steps(client, run, name):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.anew
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_all_of_a_run_and_resuming_goes_on_with_it(server, client, tmp_path):
    folder = tmp_path / "tiny-001"

    def stop_after_an_epoch(event):
        if isinstance(event, EpochDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(mlflow=server.uri), out=folder, emit=stop_after_an_epoch)
    run = run_of(client, folder)
    assert (run.info.status, run.info.run_name) == ("FAILED", "tiny-001")
    assert client.get_experiment(run.info.experiment_id).name == "tiny"

    train(config(mlflow=server.uri), out=folder, resume=folder)
    again, stored = run_of(client, folder), read_run(folder)
    assert again.info.run_id == run.info.run_id and again.info.status == "FINISHED"
    assert again.data.params["model.hidden"] == "[8]" and again.data.params["optimizer.name"] == "adamw"
    assert set(again.data.params) == set(stored.settings)
    assert again.data.tags["dlkit.folder"] == str(folder.resolve())
    epochs, told = stored.epochs, stored.metrics.steps
    assert steps(client, again, "val/accuracy") == [(row["step"], row["val_accuracy"]) for row in epochs]
    assert steps(client, again, "train/loss") == [(row["step"], row["train_loss"]) for row in epochs]
    assert steps(client, again, "train/loss_step") == [(row["step"], row["loss"]) for row in told]
    assert steps(client, again, "lr") == [(row["step"], row["lr"]) for row in told]
    assert again.data.metrics["test/accuracy"] == stored.test["accuracy"]
    assert {"model.pt", "summary.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    kept = client.download_artifacts(run.info.run_id, "model.pt", str(tmp_path))
    assert open(kept, "rb").read() == (folder / "model.pt").read_bytes()  # noqa: PTH123, SIM115


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.anew
@pytest.mark.filterwarnings("ignore")
def test_the_report_is_sent_too(server, client, write_config, dlkit, tmp_path):
    for name in ("jinja2", "plotly", "optuna"):
        pytest.importorskip(name)
    cfg = write_config(json.dumps(config(mlflow=server.uri)))
    outcome = dlkit("train", cfg, "--out", tmp_path / "command", "--quiet")
    assert (outcome.code, outcome.err) == (0, "") and "View run" not in outcome.out
    package.train(config(mlflow=server.uri), out=tmp_path / "python")
    outcome = dlkit("sweep", cfg, "optimizer.lr=0.1,0.2", "--trials", "1", "--out", tmp_path / "sweep", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    for name in ("command", "python", "sweep/trial-000"):
        kept = client.download_artifacts(run_of(client, tmp_path / name).info.run_id, "report.html", str(tmp_path))
        assert open(kept, "rb").read() == (tmp_path / name / "report.html").read_bytes()  # noqa: PTH123, SIM115


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.anew
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UsageError("not installed"), []),
        (OSError("no ink"), ["mlflow: no report: no ink; the run goes on, and its folder has everything"]),
    ],
    ids=["missing", "failing"],
)
def test_a_report_that_cannot_be_made_harms_no_run(server, client, tmp_path, error, told):
    def write_page(run_dir, output=None, *, opens_models=True):
        raise error

    notes, folder = [], tmp_path / "tiny"
    result = train(config(mlflow=server.uri), out=folder, write_page=write_page, emit=notes.append)
    assert result.status == "finished" and run_of(client, folder).info.status == "FINISHED"
    assert [event.text for event in notes if isinstance(event, Note) and "mlflow" in event.text] == told
    files = {file.path for file in client.list_artifacts(run_of(client, folder).info.run_id)}
    assert "model.pt" in files and "report.html" not in files


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.anew
@pytest.mark.filterwarnings("ignore")
def test_a_server_that_is_away_is_an_error_before_and_a_note_meanwhile(server, client, tmp_path):
    with pytest.raises(ConfigError, match=r"log\.mlflow: http://127\.0\.0\.1:9 does not answer"):
        train(config(mlflow="http://127.0.0.1:9"), out=tmp_path / "none")
    assert not (tmp_path / "none").exists()

    events, folder = [], tmp_path / "tiny-002"

    def emit(event):
        events.append(event)
        if isinstance(event, StepsDone) and server.answers():
            server.stop()

    try:
        result = train(config(mlflow=server.uri), out=folder, emit=emit)
    finally:
        server.start()
    assert result.status == "finished"
    notes = [event.text for event in events if isinstance(event, Note) and event.text.startswith("mlflow:")]
    assert len(notes) == 1 and not any(isinstance(event, RunEnded) for event in events[:-1])
    assert "val/accuracy" not in run_of(client, folder).data.metrics
    train(config(mlflow=server.uri), out=folder, resume=folder)
    run, stored = run_of(client, folder), read_run(folder)
    assert steps(client, run, "val/loss") == [(row["step"], row["val_loss"]) for row in stored.epochs]
    assert steps(client, run, "lr") == [(row["step"], row["lr"]) for row in stored.metrics.steps]
    assert run.data.metrics["test/accuracy"] == stored.test["accuracy"] and run.info.status == "FINISHED"
