"""`data.on_bad`: pictures and samples of one's own that cannot be read."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dlkit.core.data import build_data, build_eval_split
from dlkit.errors import DataError
from dlkit.events import Event

CPU = torch.device("cpu")
OWN = """
import torch


class Data:
    targets = [index % 2 for index in range(20)]

    def __len__(self):
        return 20

    def __getitem__(self, index):
        if index in (3, 8):
            raise OSError("gone")
        return torch.full((4,), float(index)), index % 2
"""


def spoil(folder: Path) -> list[Path]:
    """Make one picture of each class unreadable: one is no image, one is cut off behind its header."""
    first, second = folder / "cat" / "2.png", folder / "dog" / "4.png"
    first.write_text("no image")
    data = second.read_bytes()
    second.write_bytes(data[: len(data) // 2])
    return [first, second]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_skipped_pictures_are_named_and_the_rest_is_as_it_was(load: Any, image_folder: Path, cache: str) -> None:
    section = {"name": "imagefolder", "path": str(image_folder), "image_size": 8, "val": 0.25, "cache": cache}
    before = build_data(load(section), device=CPU, seed=0)
    bad = spoil(image_folder)
    with pytest.raises(DataError, match="not a readable image"):
        build_data(load(section), device=CPU, seed=0)
    events: list[Event] = []
    data = build_data(load({**section, "on_bad": "skip", "num_workers": 0}), device=CPU, seed=0, emit=events.append)
    assert sorted(line.split(": ")[0] for line in data.skipped) == sorted(map(str, bad))
    assert any("2 samples cannot be read and are skipped" in str(event) for event in events)
    assert data.val is not None and before.val is not None
    assert data.train.num_samples + data.val.num_samples == 10
    assert data.val.num_samples >= before.val.num_samples - 2  # nothing moved between splits
    assert sum(len(batch.inputs) for batch in data.train.batches()) == data.train.num_samples
    split = build_eval_split(load({**section, "on_bad": "skip"}), data.info, split="val", device=CPU)
    assert split.num_samples == data.val.num_samples


def test_headers_tell_less(load: Any, image_folder: Path) -> None:
    section = {"name": "imagefolder", "path": str(image_folder), "image_size": 8, "val": "none", "on_bad": "skip"}
    first, second = spoil(image_folder)
    second.write_bytes((image_folder / "dog" / "5.png").read_bytes())
    data = build_data(load({**section, "scan": "quick"}), device=CPU, seed=0)
    assert len(data.skipped) == 1 and str(first) in data.skipped[0]
    for path in image_folder.rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(DataError, match="none of the 12 train samples can be read"):
        build_data(load(section), device=CPU, seed=0)


@pytest.mark.parametrize("lines", [OWN, OWN.replace("targets =", "notes =")], ids=["targets", "no targets"])
@pytest.mark.parametrize("bad", [(3, 8), (0, 10, 19)], ids=str)
def test_samples_of_ones_own_are_skipped_too(load: Any, tmp_path: Path, lines: str, bad: tuple[int, ...]) -> None:
    (tmp_path / "own.py").write_text(lines.replace("(3, 8)", str(bad)))
    section = {"name": f"{tmp_path}/own.py:Data", "val": "none", "num_workers": 0}
    with pytest.raises(DataError, match="gone"):
        build_data(load(section, model="mlp"), device=CPU, seed=0)
    data = build_data(load({**section, "on_bad": "skip"}, model="mlp"), device=CPU, seed=0)
    assert data.train.num_samples == 20 - len(bad) == 20 - len(data.skipped)
    assert [line.split(":")[0] for line in data.skipped] == [f"Data[{index}]" for index in bad]
    seen = torch.cat([batch.targets for batch in data.train.batches()])
    assert sorted(seen.tolist()) == sorted(index % 2 for index in range(20) if index not in bad)


def test_none_of_ones_own_samples_can_be_read(load: Any, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("targets =", "notes =").replace("(3, 8)", "range(20)"))
    section = {"name": f"{tmp_path}/own.py:Data", "val": "none", "num_workers": 0, "on_bad": "skip"}
    with pytest.raises(DataError, match="none of the 20 .*gone"):
        build_data(load(section, model="mlp"), device=CPU, seed=0)
