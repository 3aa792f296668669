"""`dlkit doctor`: what this machine and installation can do, what is wrong, and how to mend it."""

import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

FREE_GIB_WANTED = 5
DEBIAN_DATA = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `status` is ok, warn or bad; `fix` says how to mend what is not ok."""

    name: str
    status: str
    text: str
    fix: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False) -> None:
    """Check versions, CPU, GPU, disk and data; exit 1 if something is broken."""
    findings = [finding for check in CHECKS for finding in _run_check(check)]
    if as_json:
        typer.echo(json.dumps({"schema": "dlkit.doctor/1", "findings": [asdict(finding) for finding in findings]}))
    else:
        _show(findings)
    if any(finding.status == "bad" for finding in findings):
        raise typer.Exit(1)


def _run_check(check: Callable[[], list[Finding]]) -> list[Finding]:
    """A check that fails is a finding, and never the end of the others."""
    try:
        return check()
    except Exception as error:
        return [
            Finding(
                check.__name__.removeprefix("check_"),
                "bad",
                f"{type(error).__name__}: {str(error).splitlines()[0][:160]}",
            )
        ]


def _show(findings: list[Finding]) -> None:
    from dlkit.cli.console import show_lines, show_table

    show_table(("", "what", "found"), [(finding.status, finding.name, finding.text) for finding in findings], left=3)
    troubles = [finding for finding in findings if finding.fix]
    show_lines(
        ["", *(f"{finding.name}: {finding.fix}" for finding in troubles)] if troubles else ["", "Nothing to mend."]
    )


def check_versions() -> list[Finding]:
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
        "torchmetrics",
        "matplotlib",
    )
    found = [Finding("python", "ok", platform.python_version())]
    for name in names:
        try:
            found.append(Finding(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            if name == "dlkit":
                from dlkit import __version__

                found.append(Finding(name, "ok", f"{__version__} (not installed, run from its sources)"))
            else:
                found.append(Finding(name, "bad", "not installed", f"pip install {name}"))
    return found


def check_torch() -> list[Finding]:
    """Whether torch and torchvision work, and work together."""
    fix = "install a matching pair: pip install --upgrade torch torchvision"
    try:
        import torch
    except Exception as error:
        return [
            Finding(
                "torch import",
                "bad",
                str(error).splitlines()[0][:160],
                "pip install --upgrade --force-reinstall torch torchvision",
            )
        ]
    try:
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        return [Finding("torchvision match", "bad", str(error).splitlines()[0][:160], fix)]
    return [Finding("torchvision match", "ok", "its operators load with this torch")]


def check_cpu() -> list[Finding]:
    """Threads and the vector instructions that torch found."""
    import torch

    from dlkit.core.scoring.precision import has_native_bf16

    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    wanted = os.environ.get("OMP_NUM_THREADS")
    fix = (
        f"OMP_NUM_THREADS={wanted} limits torch to {threads} of {cores} cores; unset it or set runtime.threads"
        if wanted and threads < cores
        else ""
    )
    bf16 = "native bf16" if has_native_bf16() else "no native bf16 (train.amp stays off)"
    return [
        Finding("cpu threads", "warn" if fix else "ok", f"{threads} of {cores} cores", fix),
        Finding("cpu features", "ok", f"{torch.backends.cpu.get_cpu_capability()}, {bf16}"),
        Finding(
            "quantized engines",
            "ok",
            ", ".join(engine for engine in torch.backends.quantized.supported_engines if engine != "none"),
        ),
    ]


def check_gpu() -> list[Finding]:
    """CUDA or MPS devices."""
    import torch

    if torch.cuda.is_available():
        return [
            Finding(
                f"cuda:{index}",
                "ok",
                f"{torch.cuda.get_device_name(index)}, {torch.cuda.get_device_properties(index).total_memory / 2**30:.0f} GiB",
            )
            for index in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        return [Finding("mps", "ok", "Apple GPU")]
    if Path("/proc/driver/nvidia").exists():
        return [
            Finding(
                "gpu",
                "warn",
                "a driver is there, but torch cannot use it",
                "install a CUDA build of torch, or update the driver",
            )
        ]
    return [Finding("gpu", "ok", "none; training runs on the CPU")]


def check_processes() -> list[Finding]:
    """What several processes can exchange gradients by."""
    import torch.distributed as dist

    if not dist.is_available():
        return [Finding("several processes", "ok", "not in this build of torch; --nproc and torchrun need it")]
    ways = [("gloo", dist.is_gloo_available()), ("nccl", dist.is_nccl_available())]
    found = ", ".join(f"{name} for {'CPUs' if name == 'gloo' else 'GPUs'}" for name, is_there in ways if is_there)
    return [Finding("several processes", "ok" if found else "warn", found or "neither gloo nor nccl")]


def check_disk() -> list[Finding]:
    """Free space for runs, and shared memory for loader processes."""
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    low = free_gib < FREE_GIB_WANTED
    found = [
        Finding(
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
        found.append(Finding("/dev/shm", "warn" if small else "ok", f"{shm_gib:.2f} GiB", fix))
    return found


def check_data() -> list[Finding]:
    """Data sets that can be used without a download."""
    found = [Finding("digits", "ok", "shipped with dlkit")]
    if DEBIAN_DATA.is_dir():
        return [*found, Finding("fashion_mnist", "ok", str(DEBIAN_DATA))]
    return [
        *found,
        Finding("fashion_mnist", "ok", "not here; apt install dataset-fashion-mnist, or data.download=true"),
    ]


CHECKS = (check_versions, check_torch, check_cpu, check_gpu, check_processes, check_disk, check_data)
