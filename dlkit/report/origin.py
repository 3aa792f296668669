"""Where a run comes from: its config and what differs from the defaults, versions, hardware and times."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from dlkit.quantities import counted, duration_text
from dlkit.report.blocks import Block, Cell, Facts, Folded, Sheet
from dlkit.report.words import is_number, short_name
from dlkit.run_folders import GIVEN_FILE, RESOLVED_FILE, StoredRun, changed_settings, default_settings, setting_text

LARGEST_TEXT = 100_000  # characters of a config that is shown


def config_blocks(run: StoredRun) -> Iterator[Block]:
    """Yields the settings that are not the defaults, and the configs as they lie in the folder."""
    changed = changed_settings(run.settings)
    defaults = default_settings()
    rows = [
        (Cell(key), Cell(setting_text(value)), Cell(setting_text(default) if key in defaults else ""))
        for key, (default, value) in changed.items()
    ]
    if rows:
        note = "Settings whose default is auto are not listed, as the folder does not tell whether somebody chose."
        yield Sheet(("setting", "here", "default"), rows, title="What differs from the defaults", note=note)
    for name, title in ((GIVEN_FILE, "The config as it was given"), (RESOLVED_FILE, "Everything, with defaults")):
        try:
            text = (run.path / name).read_text(encoding="utf-8", errors="replace")[:LARGEST_TEXT]
        except OSError:
            continue
        yield Folded(title, text)


def summary_facts(run: StoredRun) -> Facts:
    """Returns what was trained on what, in a few lines."""
    samples = {name: count for name, count in _mapping(run.facts.get("samples")).items() if is_number(count)}
    classes = run.facts.get("classes") or []
    pairs = {
        "Model": f"{run.model}, {run.facts['parameters']:,} parameters"
        if is_number(run.facts.get("parameters"))
        else run.model,
        "Data": short_name(run.data),
        "Task": run.settings.get("task"),
        "Samples": ", ".join(f"{count:,} {name}" for name, count in samples.items()),
        "Classes": f"{len(classes):,}: {_listed(classes)}" if classes else "",
        "Loss": run.settings.get("loss.name"),
        "Optimizer": _optimizer(run),
        "Schedule": run.settings.get("schedule.name"),
        "Batch": run.settings.get("data.batch_size"),
        "Length": _length(run),
        "Best": _best(run),
        "Error": run.facts.get("error"),
    }
    return Facts([(name, str(value)) for name, value in pairs.items() if value not in (None, "", "None")])


def environment_facts(run: StoredRun) -> Facts:
    """Returns versions, machine, times and the command line."""
    found = _mapping(run.facts.get("environment"))
    argv = found.get("argv")
    pairs = {
        "Device": run.facts.get("device"),
        "Precision": run.facts.get("precision"),
        "Processes": run.facts.get("processes"),
        "Machine": " · ".join(str(found[name]) for name in ("host", "platform") if name in found),
        "CPUs": found.get("cpus"),
        "Versions": ", ".join(
            f"{name} {found[name]}" for name in ("dlkit", "torch", "torchvision", "python") if name in found
        ),
        "Seed": run.facts.get("seed"),
        "Started": _time(run.facts.get("started")),
        "Ended": _time(run.facts.get("ended")),
        "Command": " ".join(["dlkit", *map(str, argv[1:])]) if isinstance(argv, list) else "",
        "Folder": run.path.resolve(),
    }
    return Facts([(name, str(value)) for name, value in pairs.items() if value not in (None, "")])


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(classes: list[Any], most: int = 12) -> str:
    return ", ".join(map(str, classes[:most])) + (", …" if len(classes) > most else "")


def _optimizer(run: StoredRun) -> str:
    name, lr, decay = (run.settings.get(f"optimizer.{key}") for key in ("name", "lr", "weight_decay"))
    return ", ".join(
        [str(name), *([f"lr {lr}"] if lr is not None else []), *([f"weight decay {decay}"] if decay else [])]
    )


def _length(run: StoredRun) -> str:
    epochs, seconds = len(run.epochs), run.train_s
    step = run.epochs[-1].get("step") if run.epochs else None
    parts = [
        counted(epochs, "epoch"),
        counted(step, "step") if isinstance(step, int) else "",
        duration_text(seconds) if seconds else "",
    ]
    return ", ".join(filter(None, parts))


def _best(run: StoredRun) -> str:
    if not run.best:
        return ""
    from dlkit.event_lines import metric_text

    return f"{metric_text(str(run.best['metric']), run.best['value'])} in epoch {run.best.get('epoch')}"


def _time(text: Any) -> str:
    try:
        return datetime.fromisoformat(str(text)).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return ""
