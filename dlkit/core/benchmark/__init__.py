"""How fast networks run: engines that run them, and interleaved timing with ratios and their spread."""

from dlkit.core.benchmark.deployment import Deployment
from dlkit.core.benchmark.engines import ENGINES, STARTERS, difference_of, start_engine
from dlkit.core.benchmark.machine import Machine, describe_machine
from dlkit.core.benchmark.onnx_engine import start_onnx_file
from dlkit.core.benchmark.openvino_engine import start_openvino_file
from dlkit.core.benchmark.run import BenchRequest, BenchResult, run_bench
from dlkit.core.benchmark.speed import SpeedPlan, SpeedRow, Speeds, TimedModel, measure_speeds
from dlkit.core.benchmark.timing import MIN_ROUNDS, WARM_UPS, Latency, Ratio, measure_interleaved, speedup
from dlkit.core.benchmark.unavailable import EngineUnavailable
