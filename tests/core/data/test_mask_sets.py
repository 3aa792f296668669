"""Other sources of masks: torchvision's data sets in their own layouts, tables, and data sets of one's own."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from dlkit.core.data import IGNORED, build_data
from dlkit.errors import ConfigError, DataError

CPU = torch.device("cpu")
ANSWER = np.random.default_rng(0).integers(0, 3, (4, 8, 8)).astype(np.uint8)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def opened(load, **data):
    return build_data(
        load({"batch_size": 4, "shuffle": False, "val": "none", **data}, model="unet"), device=CPU, seed=0
    )


def voc(root):
    base = root / "VOCdevkit" / "VOC2012"
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split in ("train", "val"):
        (base / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{split}{n}\n" for n in range(4)))
        for number, mask in enumerate(ANSWER):
            write(base / "JPEGImages" / f"{split}{number}.jpg", np.zeros((8, 8, 3), np.uint8))
            write(base / "SegmentationClass" / f"{split}{number}.png", np.where(mask == 2, 255, mask).astype(np.uint8))
    return {"name": "VOCSegmentation"}, [0, 1, IGNORED], 21


def cityscapes(root):
    for split in ("train", "val"):
        for number, mask in enumerate(ANSWER):
            stem = f"aachen_{number:06}_000019"
            write(root / "leftImg8bit" / split / "aachen" / f"{stem}_leftImg8bit.png", np.zeros((8, 8, 3), np.uint8))
            ids = np.array([7, 26, 3], np.uint8)[mask]  # road, car, what is not judged
            write(root / "gtFine" / split / "aachen" / f"{stem}_gtFine_labelIds.png", ids)
    return {"name": "Cityscapes"}, [0, 13, IGNORED], 19


def pets(root):
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for split in ("trainval", "test"):
        rows = "".join(f"{split}_{n} 1 1 1\n" for n in range(4))
        (base / "annotations" / f"{split}.txt").write_text(rows)
        for number, mask in enumerate(ANSWER):
            write(base / "images" / f"{split}_{number}.jpg", np.zeros((8, 8, 3), np.uint8))
            write(base / "annotations" / "trimaps" / f"{split}_{number}.png", mask + 1)
    return {"name": "OxfordIIITPet", "target_types": "segmentation"}, [0, 1, 2], 3


@pytest.mark.parametrize("make", [voc, cityscapes, pets])
def test_torchvisions_sets_are_read_in_their_layouts(load, tmp_path, make):
    data, meaning, count = make(tmp_path)
    built = opened(load, root=str(tmp_path), **data)
    assert (built.info.task, built.info.num_outputs, len(built.info.classes)) == ("segmentation", count, count)
    assert torch.equal(next(built.train.batches()).targets, torch.tensor(meaning)[torch.from_numpy(ANSWER).long()])
    with pytest.raises(DataError, match="could not be read"):
        opened(load, root=str(tmp_path / "nowhere"), **data)


def test_a_table_names_masks(load, tmp_path):
    rows = ["file,mask,split"]
    for number, mask in enumerate(ANSWER):
        write(tmp_path / f"{number}.png", np.zeros((8, 8), np.uint8))
        write(tmp_path / f"m{number}.png", mask)
        rows.append(f"{number}.png,m{number}.png,{'test' if number == 3 else 'train'}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    data = {"name": "images", "path": str(tmp_path / "t.csv"), "image": "file", "split": "split", "image_size": 8}
    built = opened(load, mask="mask", classes=["a", "b", "c"], **data)
    assert torch.equal(next(built.train.batches()).targets, torch.from_numpy(ANSWER[:3]).long())
    assert built.test.num_samples == 1 and built.info.classes == ("a", "b", "c")
    (tmp_path / "m1.png").unlink()
    with pytest.raises(DataError, match=r"t\.csv:3.*m1\.png"):
        opened(load, mask="mask", **data)
    with pytest.raises(ConfigError, match="a target or a mask"):
        opened(load, **data)


class Own(Dataset):
    """Gives masks as tensors, arrays or Pillow images."""

    def __init__(self, form: str) -> None:
        self.form = form

    def __len__(self):
        return len(ANSWER)

    def __getitem__(self, index):
        mask = ANSWER[index]
        forms = {
            "tensor": torch.from_numpy,
            "array": np.array,
            "pillow": Image.fromarray,
            "wide": lambda one: torch.from_numpy(one)[None],
        }
        picture = torch.full((1, 8, 8), 0.5) if self.form == "tensor" else Image.fromarray(mask)
        return picture, forms[self.form](mask if self.form != "odd" else mask[:5])


@pytest.mark.parametrize("form", ["tensor", "array", "pillow", "wide"])
@pytest.mark.parametrize("cache", ["memory", "auto"])
def test_ones_own_data_set_gives_masks(load, form, cache):
    built = opened(load, name=f"{__file__}:Own", form=form, cache=cache, num_workers=0)
    assert (built.info.task, built.info.num_outputs) == ("segmentation", 3)
    assert torch.equal(next(built.train.batches()).targets, torch.from_numpy(ANSWER).long())
