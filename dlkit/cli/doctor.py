"""`dlkit doctor`: what this machine and installation can do, what is wrong, and how to mend it."""

import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import typer

from dlkit.cli.options import AsJson
from dlkit.cli.plain_help import PlainCommand
from dlkit.cli.thread_waiting import waiting_text
from dlkit.errors import first_line

FREE_GIB_WANTED = 5
DEBIAN_DATA = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class Diagnosis:
    """One thing looked at. `status` is ok, warn or bad; `fix` says how to mend what is not ok."""

    name: str
    status: str
    text: str
    fix: str = ""


app = typer.Typer()


@app.command("doctor", cls=PlainCommand)
def doctor(as_json: AsJson = False) -> None:
    """Check versions, CPU, int8 kernels, GPU, disk and data; exit 1 if something is broken."""
    findings = [finding for check in CHECKS for finding in _run_check(check)]
    if as_json:
        typer.echo(json.dumps({"schema": "dlkit.doctor/1", "findings": [asdict(finding) for finding in findings]}))
    else:
        _show(findings)
    if any(finding.status == "bad" for finding in findings):
        raise typer.Exit(1)


def _run_check(check: Callable[[], list[Diagnosis]]) -> list[Diagnosis]:
    """A check that fails is a finding, and never the end of the others."""
    try:
        return check()
    except Exception as error:
        return [
            Diagnosis(
                check.__name__.removeprefix("check_"),
                "bad",
                f"{type(error).__name__}: {first_line(error, 160)}",
            )
        ]


def _show(findings: list[Diagnosis]) -> None:
    from dlkit.cli.console import show_lines, show_table

    show_table(("", "what", "found"), [(finding.status, finding.name, finding.text) for finding in findings], left=3)
    troubles = [finding for finding in findings if finding.fix]
    show_lines(
        ["", *(f"{finding.name}: {finding.fix}" for finding in troubles)] if troubles else ["", "Nothing to mend."]
    )


def check_versions() -> list[Diagnosis]:
    """Python and the packages that matter."""
    names = (
        "dlkit",
        "torch",
        "torchvision",
        "numpy",
        "typer",
        "rich",
        "pydantic",
        "PyYAML",
        "safetensors",
        "tensorboard",
        "matplotlib",
    )
    found = [Diagnosis("python", "ok", platform.python_version())]
    for name in names:
        try:
            found.append(Diagnosis(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            if name == "dlkit":
                from dlkit import __version__

                found.append(Diagnosis(name, "ok", f"{__version__} (not installed, run from its sources)"))
            else:
                found.append(Diagnosis(name, "bad", "not installed", f"pip install {name}"))
    return found


def check_torch() -> list[Diagnosis]:
    """Whether torch and torchvision work, and work together."""
    fix = "install a matching pair: pip install --upgrade torch torchvision"
    try:
        import torch
    except Exception as error:
        return [
            Diagnosis(
                "torch import",
                "bad",
                first_line(error, 160),
                "pip install --upgrade --force-reinstall torch torchvision",
            )
        ]
    try:
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        return [Diagnosis("torchvision match", "bad", first_line(error, 160), fix)]
    return [Diagnosis("torchvision match", "ok", "its operators load with this torch")]


def check_cpu() -> list[Diagnosis]:
    """Threads and the vector instructions that torch found."""
    import torch

    from dlkit.core.scoring import has_native_bf16

    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    wanted = os.environ.get("OMP_NUM_THREADS")
    fix = (
        f"OMP_NUM_THREADS={wanted} limits torch to {threads} of {cores} cores; unset it or set runtime.threads"
        if wanted and threads < cores
        else ""
    )
    bf16 = "native bf16" if has_native_bf16() else "no native bf16 (train.amp stays off)"
    return [
        Diagnosis("cpu threads", "warn" if fix else "ok", f"{threads} of {cores} cores, waiting {waiting_text()}", fix),
        Diagnosis("cpu features", "ok", f"{torch.backends.cpu.get_cpu_capability()}, {bf16}"),
    ]


def check_int8() -> list[Diagnosis]:
    """Which kernels run int8 networks here, and what their weights take."""
    from dlkit.quantize import describe_kernels, has_fast_kernels

    found = [Diagnosis(f"int8 {name}", "ok", text) for name, text in describe_kernels().items()]
    if not has_fast_kernels():
        slow = "no fast kernels: int8 networks run, but slower than in float"
        found.append(Diagnosis("int8 kernels", "warn", slow, "install another torch: pip install --upgrade torch"))
    return found


def check_engines() -> list[Diagnosis]:
    """What else runs networks: a C++ compiler for compile and aoti, ONNX Runtime, OpenVINO."""
    from dlkit.core.environment import find_compiler, installed_version

    compiler = find_compiler() or "none here; the engines compile and aoti need one: install g++ or clang++"
    found = [Diagnosis("C++ compiler", "ok", compiler)]
    for package, extra in (("onnxruntime", "onnx"), ("openvino", "openvino")):
        version = installed_version(package)
        found.append(Diagnosis(package, "ok", version or f"not installed; pip install 'dlkit[{extra}]'"))
    return found


def check_gpu() -> list[Diagnosis]:
    """CUDA or MPS devices."""
    import torch

    if torch.cuda.is_available():
        return [
            Diagnosis(
                f"cuda:{index}",
                "ok",
                f"{torch.cuda.get_device_name(index)}, {torch.cuda.get_device_properties(index).total_memory / 2**30:.0f} GiB",
            )
            for index in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        return [Diagnosis("mps", "ok", "Apple GPU")]
    if Path("/proc/driver/nvidia").exists():
        return [
            Diagnosis(
                "gpu",
                "warn",
                "a driver is there, but torch cannot use it",
                "install a CUDA build of torch, or update the driver",
            )
        ]
    return [Diagnosis("gpu", "ok", "none; training runs on the CPU")]


def check_processes() -> list[Diagnosis]:
    """What several processes can exchange gradients by."""
    import torch.distributed as dist

    if not dist.is_available():
        return [Diagnosis("several processes", "ok", "not in this build of torch; --nproc and torchrun need it")]
    ways = [("gloo", dist.is_gloo_available()), ("nccl", dist.is_nccl_available())]
    found = ", ".join(f"{name} for {'CPUs' if name == 'gloo' else 'GPUs'}" for name, is_there in ways if is_there)
    return [Diagnosis("several processes", "ok" if found else "warn", found or "neither gloo nor nccl")]


def check_disk() -> list[Diagnosis]:
    """Free space for runs, and shared memory for loader processes."""
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    low = free_gib < FREE_GIB_WANTED
    found = [
        Diagnosis(
            "disk here",
            "warn" if low else "ok",
            f"{free_gib:.1f} GiB free",
            f"free some space; checkpoints want {FREE_GIB_WANTED} GiB" if low else "",
        )
    ]
    shm = Path("/dev/shm")
    if shm.exists():
        shm_gib = shutil.disk_usage(shm).total / 2**30
        small = shm_gib < 0.25
        fix = (
            "loader processes pass batches through /dev/shm: enlarge it (docker: --shm-size=1g) or set data.num_workers=0"
            if small
            else ""
        )
        found.append(Diagnosis("/dev/shm", "warn" if small else "ok", f"{shm_gib:.2f} GiB", fix))
    return found


def check_data() -> list[Diagnosis]:
    """Data sets that can be used without a download."""
    found = [Diagnosis("digits", "ok", "shipped with dlkit")]
    if DEBIAN_DATA.is_dir():
        return [*found, Diagnosis("fashion_mnist", "ok", str(DEBIAN_DATA))]
    return [
        *found,
        Diagnosis("fashion_mnist", "ok", "not here; apt install dataset-fashion-mnist, or data.download=true"),
    ]


CHECKS = (
    check_versions,
    check_torch,
    check_cpu,
    check_int8,
    check_engines,
    check_gpu,
    check_processes,
    check_disk,
    check_data,
)
