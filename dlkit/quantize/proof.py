"""What quantization changed: scores, agreement, size and latency of the float network and of the int8 one."""

from pathlib import Path

from dlkit.core.benchmark import SpeedPlan
from dlkit.core.evaluation import Comparison, NamedNetwork, compare_networks
from dlkit.quantize.calibration_data import CPU
from dlkit.quantize.task import Made, Task

FLOAT, INT8 = "float32", "int8"
# torch.compile takes minutes to start and runs no int8; `dlkit bench` measures it
ENGINES = ("eager", "channels_last", "frozen", "onnx")


def compare(saved: Path, task: Task, made: Made) -> Comparison:
    """The float network before, the int8 network in `saved` after. Without data there are no scores."""
    size, seconds, data = tuple(task.file.spec.info.input_size), task.request.seconds, task.data
    plan = (
        SpeedPlan(size, CPU, engines=ENGINES, seconds=seconds, baseline=(FLOAT, "eager"))
        if seconds is not None
        else None
    )
    return compare_networks(
        NamedNetwork(FLOAT, task.network, task.file.path),
        NamedNetwork(INT8, made.network, saved),
        data.judged if data else None,
        scoring=data.scoring if data else None,
        speed_plan=plan,
        input_size=size,
        emit=task.emit,
    )
