"""Threads that decode files before training: a file that hangs is named, and nothing waits for it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dlkit.core.data import build_data, build_eval_split, run_on_all
from dlkit.errors import DataError, OutOfResource

CPU = torch.device("cpu")


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Lets opening a picture take until the end of the test, as one on a share whose server is gone."""
    hanging, is_over, open_image = set[str](), threading.Event(), Image.open

    def wait_or_open(path: str) -> Image.Image:
        if path in hanging:
            is_over.wait(60)
        return open_image(path)

    monkeypatch.setattr(Image, "open", wait_or_open)
    yield lambda path: hanging.add(str(path))
    is_over.set()


@pytest.mark.posix
@pytest.mark.parametrize(
    "section",
    [
        {"cache": "memory"},
        {"cache": "none", "scan": "full"},
        {"cache": "none", "scan": "quick"},
        {"on_bad": "skip"},
        {"cache": "none", "scan": "off", "num_workers": 0, "normalize": "data"},
    ],
    ids=lambda section: " ".join(map(str, section.values())),
)
def test_a_picture_that_hangs_is_named(
    load: Any, image_folder: Path, hang: Callable[[Path], None], section: dict[str, Any]
) -> None:
    hang(image_folder / "dog" / "3.png")
    whole = {"name": "imagefolder", "path": str(image_folder), "image_size": 8, "val": "none", "timeout": 0.2} | section
    with pytest.raises(DataError, match=r"^\S+dog/3.png: reading it has taken more than 0.2 s.*data.timeout"):
        build_data(load(whole), device=CPU, seed=0)


@pytest.mark.posix
def test_the_first_picture_and_those_of_an_evaluation_too(
    load: Any, image_folder: Path, hang: Callable[[Path], None]
) -> None:
    section = {"name": "imagefolder", "path": str(image_folder), "image_size": 8, "val": "none", "timeout": 0.2}
    info = build_data(load(section), device=CPU, seed=0).info
    for path in sorted((image_folder / "cat").iterdir()):
        hang(path)
    with pytest.raises(DataError, match=r"^\S+cat/0.png: reading it has taken more than 0.2 s"):
        build_data(load(section), device=CPU, seed=0)
    with pytest.raises(DataError, match=r"^\S+cat/\d.png: reading it has taken more than 0.2 s"):
        build_eval_split(load({**section, "val": 0.5}), info, split="val", device=CPU)


def test_many_items_may_take_longer_than_one_may() -> None:
    waiting = threading.Event()
    assert run_on_all(lambda number: waiting.wait(0.02) or number, range(40), limit_s=0.2) == list(range(40))


def test_what_a_thread_raises_is_raised() -> None:
    def fail(number: int) -> None:
        if number == 3:
            raise MemoryError
        if number == 4:
            raise KeyError(number)

    with pytest.raises(OutOfResource, match="^3: memory ran out while it was read"):
        run_on_all(fail, range(4))
    with pytest.raises(KeyError):
        run_on_all(fail, range(4, 9))
