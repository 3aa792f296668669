"""What quantization changed: scores, agreement, size and latency of the float network and of the int8 one."""

from pathlib import Path

from dlkit.core.benchmark import SpeedPlan, Speeds, TimedModel, measure_speeds
from dlkit.core.evaluation import Agreement, Comparison, NamedNetwork, Scores, Side, compare_networks, weigh_network
from dlkit.quantize.calibration_data import CPU
from dlkit.quantize.task import Made, Task

FLOAT, INT8 = "float32", "int8"
# torch.compile takes minutes to start and runs no int8; `dlkit bench` measures it
ENGINES = ("eager", "channels_last", "frozen", "onnx")


def compare(saved: Path, task: Task, made: Made) -> Comparison:
    """The float network before, the int8 network in `saved` after. Without data there are no scores."""
    before = NamedNetwork(FLOAT, task.network, task.file.path)
    after = NamedNetwork(INT8, made.network, saved)
    size, plan = tuple(task.file.spec.info.input_size), _plan(task)
    if task.data is not None:
        scoring, split = task.data.scoring, task.data.judged
        return compare_networks(before, after, split, scoring=scoring, speed_plan=plan, input_size=size, emit=task.emit)
    none = Scores("", 0, {})
    sides = [Side(side.name, none, weigh_network(side.network, size, side.path)) for side in (before, after)]
    return Comparison(sides[0], sides[1], Agreement(None, None), _measure(before, after, plan, task))


def _plan(task: Task) -> SpeedPlan | None:
    seconds = task.request.seconds
    if seconds is None:
        return None
    size = tuple(task.file.spec.info.input_size)
    return SpeedPlan(size, engines=ENGINES, seconds=seconds, device=CPU, baseline=(FLOAT, "eager"))


def _measure(before: NamedNetwork, after: NamedNetwork, plan: SpeedPlan | None, task: Task) -> Speeds | None:
    if plan is None:
        return None
    models = [TimedModel(FLOAT, before.network, False), TimedModel(INT8, after.network, True)]
    return measure_speeds(models, plan, emit=task.emit)
