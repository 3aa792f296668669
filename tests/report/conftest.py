"""Run folders to report of, small and trained once, and a browser that stays open."""

from types import SimpleNamespace

import numpy as np
import pytest

import dlkit as package
from tests.chromium import Browser, find_chromium

HOSTILE = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script>'
QUICK = {"train": {"epochs": 3}, "log": {"tensorboard": False}}
IMAGES = {"name": "fake", "num_samples": 80, "shape": [1, 8, 8], "num_classes": 3, "batch_size": 16}


def write_rows(path, targets):
    inputs = np.random.default_rng(0).normal(size=(len(targets), 3)).astype(np.float32)
    np.savez(path, x=inputs, y=targets)
    return {"name": "npz", "path": str(path), "val": 0.3}


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Two runs of images, one of maps, one of labels, one of numbers, and one of rows whose classes have hostile names."""
    folder = tmp_path_factory.mktemp("runs")
    generator = np.random.default_rng(1)
    labels = write_rows(folder / "labels.npz", (generator.normal(size=(60, 4)) > 0.3).astype(np.uint8))
    numbers = write_rows(folder / "numbers.npz", 100 + generator.normal(size=(60, 2)).astype(np.float32))
    (folder / "hostile").mkdir()
    (folder / "hostile" / "rows.csv").write_text(
        "a,b,kind\n"
        + "".join(
            f'{k % 7},{k % 3},"{[HOSTILE.replace(chr(34), chr(34) * 2), "b&b", "<i>c"][k % 3]}"\n' for k in range(60)
        )
    )
    configs = {
        "one": {"data": IMAGES, "model": {"name": "small_cnn", "width": 4}},
        "two": {"data": IMAGES, "model": {"name": "small_cnn", "width": 4}, "optimizer": {"name": "sgd", "lr": 0.05}},
        "maps": {
            "data": IMAGES | {"limit": 40},
            "model": {"name": "unet", "width": 3, "depth": 1},
            "task": "segmentation",
        },
        "labels": {"data": labels, "model": "mlp", "task": "multilabel"},
        "numbers": {"data": numbers, "model": "mlp"},
        "hostile": {
            "data": {"name": "csv", "path": str(folder / "hostile" / "rows.csv"), "target": "kind"},
            "model": "mlp",
            "name": "hostile",
        },
    }
    return SimpleNamespace(
        **{name: package.train(QUICK | config, out=folder / name).run_dir for name, config in configs.items()}
    )


@pytest.fixture(scope="session")
def browser():
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium is on the PATH")
    with Browser(path) as found:
        yield found
