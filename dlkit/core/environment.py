"""Versions, host and time of a run, and whether programs can be compiled here."""

import os
import platform
import shutil
import socket
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from dlkit import __version__


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def describe_environment() -> dict[str, Any]:
    """Versions and host, for run.json and the model file."""
    return {
        "dlkit": __version__,
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "torchvision": metadata.version("torchvision"),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "argv": list(sys.argv),
    }


def find_compiler() -> str | None:
    """The path of the C++ compiler that torch's Inductor would call, or None."""
    usual = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual))


NO_COMPILER = "it needs a C++ compiler; none is here, neither the usual one nor what CXX names: install g++ or clang++"


def installed_version(package: str) -> str | None:
    """The version of a package, or None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
