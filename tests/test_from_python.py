"""Training from Python that shows how it goes: in a real notebook kernel, and on stderr elsewhere; and the result's own plot."""

import base64
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import dlkit
from dlkit.errors import OutputError, UsageError
from dlkit.events import EpochDone

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "notebook.ipynb"
TINY = {
    "data": {"name": "digits", "limit": 64},
    "model": {"name": "small_cnn", "width": 2},
    "train": {"epochs": 2},
    "log": {"tensorboard": False},
}


@pytest.mark.anew
def test_the_notebook_runs_and_shows(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    shutil.copy(NOTEBOOK, tmp_path)
    notebook = nbformat.read(tmp_path / NOTEBOOK.name, 4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()
    trained, metrics, plotted, reported, *_ = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (shown,) = trained.outputs  # one table that was drawn anew, not one for each epoch
    html = shown.data["text/html"]
    assert (
        "<td" in html and "4/4" in html and html.count("<tr>") == 5 and "test: loss" in html and "<progress" not in html
    )
    assert "accuracy" not in html.split("<table>")[1].split("</table>")[0]  # columns are called as on a terminal
    assert "val_accuracy" in metrics.outputs[0].data["text/plain"]
    assert base64.b64decode(plotted.outputs[0].data["image/png"]).startswith(b"\x89PNG")
    run = tmp_path / "runs" / "run-001"
    assert (run / "model.pt").exists() and "report.html" in reported.outputs[0].data["text/plain"]
    assert "val_accuracy" in (run / "report.html").read_text()


def test_elsewhere_the_table_goes_to_stderr_and_events_to_who_asked(tmp_path, capsys):
    events = []
    result = dlkit.train(TINY, out=tmp_path / "run", progress=True, emit=events.append)
    told = capsys.readouterr()
    assert told.out == "" and "1/2" in told.err and "val_acc" in told.err and "run folder" in told.err
    assert len([event for event in events if isinstance(event, EpochDone)]) == 2 == len(result.history)


def test_nothing_is_printed_unless_asked(tmp_path, capsys):
    dlkit.train(TINY, out=tmp_path / "run")
    assert capsys.readouterr() == ("", "")


def test_the_plot_has_the_curves(tmp_path):
    result = dlkit.train(TINY, out=tmp_path / "run")
    figure = result.plot()
    loss, accuracy = figure.axes
    curves = {line.get_label(): line for line in accuracy.get_lines()}
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy in %")
    assert list(curves["validation"].get_xdata()) == [1, 2]
    assert list(curves["validation"].get_ydata()) == [100 * row["val_accuracy"] for row in result.history]
    assert list(loss.get_lines()[0].get_ydata()) == [row["train_loss"] for row in result.history]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_plot_of_numbers_is_of_the_loss_alone(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b,y\n" + "".join(f"{i},{i % 3},{2 * i}\n" for i in range(60)))
    data = {"name": "table", "path": str(tmp_path / "rows.csv"), "target": "y"}
    result = dlkit.train(TINY | {"data": data, "model": "mlp", "task": "regression"}, out=tmp_path / "run")
    (loss,) = result.plot().axes
    assert [line.get_label() for line in loss.get_lines()][:2] == ["training", "validation"]


def test_the_page_of_a_run_and_of_two(tmp_path):
    results = [dlkit.train(TINY | {"seed": seed}, out=tmp_path / str(seed)) for seed in (0, 1)]
    assert results[0].report() == results[0].report() == tmp_path / "0" / "report.html"
    page = dlkit.write_report(*(result.run_dir for result in results), output=tmp_path / "both.html")
    assert page.read_text().startswith("<!") and results[0].report(tmp_path / "own.html").exists()
    with pytest.raises(OutputError, match="--force"):
        dlkit.write_report(results[0].run_dir)
    with pytest.raises(UsageError, match=r"dlkit\.write_report\('.*0'\)"):
        replace(results[0], write_page=None).report()
