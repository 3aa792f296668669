"""Running scenes and commands in several processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).resolve().parent


def worker_environment(rank: int, size: int, store: Path, **extra: str) -> dict[str, str]:
    """The variables of one process of several on this machine."""
    place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "DLKIT_STORE": store}
    found = os.environ | {name: str(value) for name, value in place.items()} | extra
    return found | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}


@pytest.fixture
def act(tmp_path: Path) -> Callable[..., list[list[dict[str, Any]]]]:
    """`act(configs, size)` trains the configs in so many processes; what came of them, by rank."""

    def run(configs: list[dict[str, Any]], size: int, **extra: str) -> list[list[dict[str, Any]]]:
        folder = tmp_path / f"scene-{size}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "configs.json").write_text(json.dumps(configs))
        command = [sys.executable, str(HERE / "scene.py"), str(folder / "configs.json"), str(folder / "out.pt")]
        if size == 1:
            subprocess.run(command, check=True, timeout=300)
            return torch.load(folder / "out.pt")
        processes = [
            subprocess.Popen(command, env=worker_environment(rank, size, folder / "store", **extra))
            for rank in range(size)
        ]
        assert [process.wait(300) for process in processes] == [0] * size
        return torch.load(folder / "out.pt")

    return run
