"""Events as plain lines of text, for train.log and for output that is no terminal."""

from dlkit.events import EpochDone, Event, Note, Progress, RunStarted, Saved, SweepStarted, Tested, TrialStarted
from dlkit.quantities import counted
from dlkit.tasks import metric_of


def event_line(event: Event) -> str | None:
    """An event as a line (several for RunStarted), or None for an event that only moves a progress bar."""
    match event:
        case Note():
            return f"note: {event.text}"
        case RunStarted():
            return "\n".join(start_lines(event))
        case Progress():
            return progress_line(event)
        case EpochDone():
            return epoch_line(event)
        case Tested():
            return f"{event.split}: " + "  ".join(metric_text(name, value) for name, value in event.metrics.items())
        case SweepStarted():
            return sweep_line(event)
        case TrialStarted():
            return trial_line(event)
        case Saved(what="model"):
            return f"saved {event.path}"
    return None


def sweep_line(event: SweepStarted) -> str:
    """The line at the start of a sweep."""
    trials = (
        "until the time is up" if event.trials is None else f"{event.done} of {counted(event.trials, 'trial')} done"
    )
    return f"sweep {event.folder}: {trials}, judged by {event.metric} ({event.mode})"


def trial_line(event: TrialStarted) -> str:
    """The line at the start of a trial."""
    words = " ".join(f"{key}={value}" for key, value in event.values.items())
    return f"trial {event.number}{' goes on' if event.is_resumed else ''}: {words}"


def start_lines(event: RunStarted) -> list[str]:
    """The lines at the start of a run: model and device, data, batch size and steps."""
    trainable = "" if event.num_trainable == event.num_parameters else f" ({event.num_trainable:,} trainable)"
    splits = ", ".join(f"{count:,} {name}" for name, count in event.split_sizes.items())
    batch = _batch_text(event)
    steps = (
        f"{event.epochs} epochs of {counted(event.steps_per_epoch, 'step')}"
        if event.epochs > 1
        else counted(event.total_steps, "step")
    )
    lines = [
        f"{event.model}, {event.num_parameters:,} parameters{trainable}, on {event.device} in {event.precision}",
        f"{splits} samples, {batch}, {steps}",
    ]
    if event.run_dir is not None:
        lines.append(f"run folder {event.run_dir}")
    if event.start_step:
        lines.append(f"resumed at step {event.start_step:,} of {event.total_steps:,}")
    return lines


def _batch_text(event: RunStarted) -> str:
    factors = [f"{event.batch_size}"] + ([f"{event.processes} processes"] if event.processes > 1 else [])
    factors += [f"{event.accumulate} accumulated"] if event.accumulate > 1 else []
    total = event.batch_size * event.processes * event.accumulate
    return "batch " + " x ".join(factors) + (f" = {total:,}" if event.processes > 1 else "")


def progress_line(event: Progress) -> str:
    """The progress of training in a line."""
    return (
        f"epoch {event.epoch}/{event.epochs}, step {event.step_in_epoch}/{event.steps_in_epoch}: "
        f"loss {event.loss:.4f}, {metric_text(event.metric, event.value)}, lr {event.lr:.3g}, {event.samples_per_s:,.0f} samples/s"
    )


def epoch_line(event: EpochDone) -> str:
    """The metrics of an epoch in a line."""
    shown = [
        metric_text(name, value)
        for name, value in event.row.items()
        if name not in {"epoch", "step"} and value is not None
    ]
    return f"epoch {event.epoch}/{event.epochs}: " + "  ".join(shown) + ("  best" if event.best else "")


def metric_text(name: str, value: float) -> str:
    """The name and the value of a metric."""
    return f"{name} {metric_value(name, value)}"


def metric_value(name: str, value: float | None) -> str:
    """The value of a metric as people read it: accuracies in percent, times in seconds; empty for None."""
    if value is None:
        return ""
    if metric_of(name).is_percent:
        return f"{value:.2%}"
    if name == "lr":
        return f"{value:.3g}"
    if name.endswith("_s"):
        return f"{value:.1f}s"
    return f"{value:.4f}"
