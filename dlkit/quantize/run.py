"""A whole quantization: the table of contents.

check the request (request.py) -> data to calibrate and to judge on (calibration_data.py) -> the int8 network (making.py) -> which
layers and kernels are int8 (coverage.py, int8_proof.py) -> write it and load it in a fresh process (storage/) -> before and
after, and since before it was pruned (comparison.py) -> report, picture, export (report.py, picture.py) -> all files into place
at once (core/staging.py).
"""

from dataclasses import replace

from torch.fx import GraphModule

from dlkit.core.benchmark import describe_machine
from dlkit.core.devices import torch_settings
from dlkit.core.evaluation import without_temperature
from dlkit.core.export import Parity, export_onnx
from dlkit.core.modelfile import ModelFile, ModelSpec, build_from_file, without_auxiliary_head
from dlkit.core.release_memory import release_memory
from dlkit.core.staging import Staging, staged
from dlkit.events import Emit, Event, Note, Working, ignore
from dlkit.files import write_json
from dlkit.quantize.backends import cpu_notes
from dlkit.quantize.calibration_data import CPU, open_model_data
from dlkit.quantize.comparison import compare, measure_total
from dlkit.quantize.coverage import float_weights_note, layer_statuses
from dlkit.quantize.graph import graph_facts
from dlkit.quantize.int8_proof import count_int8_kernels, require_int8
from dlkit.quantize.making import make_int8, plan_recipe
from dlkit.quantize.picture import save_picture
from dlkit.quantize.report import Coverage, Outcome, describe_outcome
from dlkit.quantize.request import QuantizeOutputs, QuantizeRequest, check_request, plan_paths
from dlkit.quantize.storage import check_reload, save_quantized
from dlkit.quantize.task import Made, Task, check_weights
from dlkit.shapes import size_text


def run_quantization(file: ModelFile, request: QuantizeRequest, emit: Emit = ignore) -> Outcome:
    """Make an int8 model file, prove that it loads and what it changed, and write all files or none.

    Raises UsageError when no layer can be int8, and DlkitError when the file gives other outputs in a fresh process. Where only the
    export fails, the rest is written, and the outcome holds that error.
    """
    check_request(file, request)
    paths = plan_paths(file, request)
    if request.mode == "qat" and request.keep == "best":
        plan_paths(file, request, is_static_kept=True)  # what is in the way is told before hours of training
    notes: list[str] = []
    with torch_settings():
        task = _open(file, request, _collect_notes(notes, emit))
        made = make_int8(task, plan_recipe(task.network, request))
        if made.is_static_kept:
            paths = plan_paths(file, request, is_static_kept=True)
        release_memory(task.network.parameters())
        coverage = _prove_int8(task, made)
        for text in _notes(task, made, coverage):
            task.emit(Note(text))
        with staged(paths.model) as staging:
            spec = _save(staging, paths, task, made)
            parity, failure = _export(staging, paths, task, made, spec=spec)
            comparison = compare(staging.path(paths.model), task, made)
            total = measure_total(staging.path(paths.model), task, made, comparison.after.scores)
            outcome = Outcome(
                task=task,
                paths=paths,
                made=made,
                coverage=coverage,
                comparison=comparison,
                parity=parity,
                export_failure=failure,
                machine=describe_machine(CPU),
                notes=tuple(notes),
                total=total,
            )
            _write_report(staging, outcome)
    return outcome


def _collect_notes(notes: list[str], emit: Emit) -> Emit:
    """Report on, and keep what was noted for the report."""

    def collect(event: Event) -> None:
        if isinstance(event, Note) and event.text not in notes:
            notes.append(event.text)
        emit(event)

    return collect


def _open(file: ModelFile, request: QuantizeRequest, emit: Emit) -> Task:
    file = without_auxiliary_head(file, emit)
    network = build_from_file(file, model=request.model)
    check_weights(file, network)
    data = open_model_data(file, request, emit)
    return Task(file, request, network, data, emit)


def _notes(task: Task, made: Made, coverage: Coverage) -> list[str]:
    """What a user should know of the network and of this machine, a sentence each."""
    notes = cpu_notes(made.recipe, made.network)
    if (in_float := float_weights_note(task.network, coverage.layers)) is not None:
        notes.append(in_float)
    if isinstance(made.network, GraphModule) and graph_facts(made.network).is_exported:
        size = size_text(made.example.shape[1:])
        notes.append(
            f"torch.fx cannot follow this network, so that torch.export did: the file takes inputs of {size} only."
        )
    return notes


def _prove_int8(task: Task, made: Made) -> Coverage:
    """Which layers and kernels are int8. Raises UsageError when none are."""
    layers = layer_statuses(task.network, made.network, made.recipe, kept=made.kept)
    kernels = count_int8_kernels(made.network, made.example)
    require_int8(layers, kernels)
    return Coverage(tuple(layers), kernels)


def _save(staging: Staging, paths: QuantizeOutputs, task: Task, made: Made) -> ModelSpec:
    """Write the model file, and load it again in a fresh process. Returns what the file says of itself."""
    task.emit(Working("loading the file in a fresh process", 0, 1))
    path, recipe = staging.path(paths.model), made.recipe
    own = replace(task.file.spec, info=without_temperature(task.file.spec.info, task.emit))
    spec = save_quantized(path, own, made.network, recipe=recipe, example=made.example, provenance=made.facts())
    check_reload(path, made.network, made.inputs, model=task.request.model)
    return spec


def _export(
    staging: Staging, paths: QuantizeOutputs, task: Task, made: Made, *, spec: ModelSpec
) -> tuple[Parity | None, Exception | None]:
    """Write the ONNX file if it was asked for. Returns how near it is, or why it was not written, which costs nobody the model."""
    if paths.exported is None:
        return None, None
    task.emit(Working(f"writing {paths.exported.name}", 0, 1))
    try:
        parity = export_onnx(made.network, staging.path(paths.exported), made.example, inputs=made.inputs, spec=spec)
    except Exception as error:  # exporters fail with many kinds of error; the command ends with this one
        return None, error
    if parity.cpu_note:
        task.emit(Note(parity.cpu_note))
    return parity, None


def _write_report(staging: Staging, outcome: Outcome) -> None:
    save_picture(staging.path(outcome.paths.picture), outcome)
    write_json(staging.path(outcome.paths.report), describe_outcome(outcome))
