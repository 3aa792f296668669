"""digits, FashionMNIST, torchvision's data sets, fake ones, and datasets of the user's own."""

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dlkit.core.data import DataSplits, LoaderSplit, MemorySplit, TensorSamples, build_data
from dlkit.core.data.sources import DEBIAN_FASHION_MNIST, FASHION_CLASSES, read_digits, read_idx, samples_of
from dlkit.errors import ConfigError, DataError

CPU = torch.device("cpu")


def build(load: Any, name: str, **options: Any) -> DataSplits:
    return build_data(load({"name": name, "num_workers": 0, **options}), device=CPU, seed=0)


# --- digits


def test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    original = datasets.load_digits()
    images, labels = read_digits()
    assert labels.tolist() == original.target.tolist()
    scaled = np.rint(original.images * 255 / 16).astype(np.uint8)
    assert np.array_equal(images[:, 0].numpy(), scaled)


def test_digits_hold_every_fifth_for_testing(load: Any) -> None:
    data = build(load, "digits", val=0.1)
    images, labels = read_digits()
    assert images.shape == (1797, 1, 8, 8) and images.dtype == torch.uint8 and int(images.max()) == 255
    assert data.val is not None and data.test is not None
    assert [split.num_samples for split in (data.train, data.val, data.test)] == [1294, 144, 359]
    assert torch.equal(data.test.sample_targets(), labels[4::5])
    assert data.info.classes == tuple("0123456789")
    # the digits of a class look alike: nearest class mean already gets nine in ten right
    train = torch.cat([batch.inputs for batch in data.train.batches()])
    targets = torch.cat([batch.targets for batch in data.train.batches()])
    means = torch.stack([train[targets == label].mean(0).flatten() for label in range(10)])
    test = torch.cat([batch.inputs for batch in data.test.batches()]).flatten(1)
    assert float((torch.cdist(test, means).argmin(1) == data.test.sample_targets()).float().mean()) > 0.85


# --- idx files


def idx_bytes(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, train: int = 30, test: int = 10, *, zipped: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx_bytes(array)
            name = f"{part}-{what}-ubyte" + (".gz" if zipped else "")
            (folder / name).write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_mnist_is_found_in_the_folders_that_people_have(load: Any, tmp_path: Path, zipped: bool) -> None:
    for place in (tmp_path / "a", tmp_path / "b" / "FashionMNIST" / "raw", tmp_path / "c" / "raw"):
        write_mnist(place, zipped=zipped)
    found = [build(load, "fashion_mnist", root=str(tmp_path / name), val="none") for name in "abc"]
    for data in found:
        assert data.info.classes == FASHION_CLASSES and data.info.input_size == (1, 28, 28)
        assert data.train.num_samples == 30 and data.test is not None and data.test.num_samples == 10
        assert torch.equal(data.train.sample_targets(), torch.arange(30) % 10)


def test_fashion_mnist_nowhere_tells_both_ways(load: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"apt install dataset-fashion-mnist.*data\.download=true") as caught:
        build(load, "FashionMNIST", root=str(tmp_path))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion_mnist_is_read_in_place(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = build(load, "fashion_mnist")
    assert data.val is not None and data.test is not None
    assert [split.num_samples for split in (data.train, data.val, data.test)] == [54_000, 6_000, 10_000]
    assert torch.equal(torch.bincount(data.val.sample_targets()), torch.full((10,), 600))
    # the well-known statistics of the whole training set
    assert data.info.mean == pytest.approx((0.2860,), abs=1e-3) and data.info.std == pytest.approx((0.3530,), abs=1e-3)


def test_idx_files_that_are_broken(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    whole = idx_bytes(array)
    (tmp_path / "a").write_bytes(whole)
    assert np.array_equal(read_idx(tmp_path / "a").numpy(), array)
    broken = {
        "short": (whole[:-1], "holds 23 bytes where its header promises 24"),
        "long": (whole + b"\0", "holds 25 bytes"),
        "other": (b"\x1f\x8b12345678", "not an idx file of bytes"),
        "floats": (b"\0\0\x0d\x01" + whole[4:], "not an idx file of bytes"),
        "empty": (b"", "not an idx file"),
        "cut.gz": (gzip.compress(whole)[:-9], "cannot be read"),
        "plain.gz": (whole, "cannot be read"),
    }
    for name, (content, sentence) in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=sentence):
            read_idx(tmp_path / name)


# --- torchvision by name


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """A small CIFAR10 in torchvision's layout, its checks of sums left out."""
    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (60, 3 * 32 * 32), dtype=np.uint8)
    names = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    for number, name in enumerate(names):
        rows = {"data": images[number * 10 : number * 10 + 10], "labels": list(range(10))}
        (folder / name).write_bytes(pickle.dumps(rows))
    labels = [f"class {number}" for number in range(10)]
    (folder / CIFAR10.meta["filename"]).write_bytes(pickle.dumps({"label_names": labels}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: True)
    return torch.from_numpy(images).view(60, 3, 32, 32)


def test_a_torchvision_set_is_taken_as_whole_tensors(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_cifar(tmp_path, monkeypatch)
    data = build(load, "cifar10", root=str(tmp_path), val="none", normalize="none")
    assert isinstance(data.train, MemorySplit) and data.test is not None
    assert torch.equal(data.train.inputs, images[:50])
    (batch,) = data.test.batches()
    torch.testing.assert_close(batch.inputs, images[50:] / 255)
    assert data.info.classes is not None and data.info.classes[3] == "class 3"


@pytest.mark.parametrize("name", ["CIFAR100", "mnist", "SVHN", "STL10", "Food101", "emnist"])
def test_a_torchvision_set_that_is_not_there_tells_how_to_get_it(load: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"data\.download=true") as caught:
        build(load, name, root=str(tmp_path / "data"))
    assert str(tmp_path / "data") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_emnist_variants_are_checked(load: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.variant: expected one of balanced, .*got 'runes'"):
        build(load, "emnist", variant="runes")


class Tiny:
    """Files in the manner of torchvision: Pillow images and whole-number labels."""

    def __init__(self, images: list[Image.Image], data: Any = None, targets: Any = None) -> None:
        self.images = images
        if data is not None:
            self.data = data
        if targets is not None:
            self.targets = targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.images[index], index % 3


def test_arrays_are_taken_only_if_they_are_what_items_show() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 6, 6, 3), dtype=np.uint8)
    pictures = [Image.fromarray(image) for image in pixels]
    taken = samples_of(Tiny(pictures, pixels, [0, 1, 2] * 3), "Tiny")
    assert isinstance(taken, TensorSamples)
    for index in range(9):
        assert np.array_equal(taken.load(index)[0].numpy(), pixels[index].transpose(2, 0, 1))
    turned = samples_of(Tiny(pictures, pixels[::-1].copy()), "Tiny")
    assert not isinstance(turned, TensorSamples)
    assert turned.targets.tolist() == [0, 1, 2] * 3
    # labels that contradict the items are not believed either
    assert samples_of(Tiny(pictures, pixels, [2] * 9), "Tiny").targets.tolist() == [0, 1, 2] * 3


# --- fake


@pytest.mark.parametrize(("shape", "kind"), [((1, 8, 8), "image"), ((5,), "features"), ((4, 3), "sequence")])
def test_fake_data_are_deterministic_and_can_be_learnt(load: Any, shape: tuple[int, ...], kind: str) -> None:
    data, again = (build(load, "fake", shape=list(shape), num_samples=120, num_classes=4, noise=0.1) for _ in range(2))
    assert data.info.kind == kind and data.info.input_size == shape and data.test is not None
    for ours, theirs in zip(data.train.batches(), again.train.batches(), strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)
    train = {label: [] for label in range(4)}  # type: ignore[var-annotated]
    for batch in data.train.batches():
        for row, label in zip(batch.inputs, batch.targets.tolist(), strict=True):
            train[label].append(row.flatten())
    means = torch.stack([torch.stack(rows).mean(0) for rows in train.values()])
    for batch in data.test.batches():
        assert torch.equal(torch.cdist(batch.inputs.flatten(1), means).argmin(1), batch.targets)


def test_fake_shapes_are_checked(load: Any) -> None:
    with pytest.raises(DataError, match="shape of 1 to 3 sizes"):
        build(load, "fake", shape=[1, 2, 3, 4])


# --- datasets of the user's own


class Pairs:
    """Samples from a list."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


CUSTOM = f"{__file__}:"


def by_train(train: bool, size: int = 12) -> Pairs:
    return Pairs(*[(torch.full((3,), float(index)), index % 2) for index in range(size if train else 4)])


def by_split(split: str) -> Pairs:
    if split == "val":
        raise ValueError("no such split")
    return Pairs(*[(torch.full((2, 3), float(index)), index % 2) for index in range(12 if split == "train" else 4)])


def once(root: str, seed: int, offset: float = 0.0) -> Pairs:
    assert root == "data" and seed == 0
    return Pairs(*[(torch.full((1, 4, 4), offset + index), torch.tensor([float(index), 1.0])) for index in range(12)])


def at_home(root: str = "here") -> Pairs:
    return Pairs(*[(torch.zeros(3), int(root == "here") * (index % 2)) for index in range(12)])


def test_a_root_of_its_own_stays_unless_the_config_names_one(load: Any) -> None:
    assert build(load, f"{__file__}:at_home", val="none").info.num_outputs == 2
    with pytest.raises(DataError, match="one class only"):
        build(load, f"{__file__}:at_home", root="there", val="none")


def pictures() -> Pairs:
    return Pairs(*[(Image.new("RGB", (5, 4), (index, 0, 0)), np.int64(index % 3)) for index in range(12)])


def arrays() -> Pairs:
    items = [np.full((4, 5, 3), index, dtype=np.uint8) for index in range(12)]
    for item in items:
        item.flags.writeable = False
    return Pairs(*[(item, index % 3) for index, item in enumerate(items)])


def test_a_builder_that_takes_train_is_called_twice(load: Any) -> None:
    data = build(load, CUSTOM + "by_train", size=20, val=0.2)
    assert isinstance(data.train, LoaderSplit) and data.val is not None and data.test is not None
    assert [split.num_samples for split in (data.train, data.val, data.test)] == [16, 4, 4]
    assert data.info.kind == "features" and data.info.num_outputs == 2


def test_a_builder_that_takes_split_is_called_by_name(load: Any) -> None:
    data = build(load, CUSTOM + "by_split", val=0.25)
    assert data.val is not None and data.test is not None
    assert [split.num_samples for split in (data.train, data.val, data.test)] == [9, 3, 4]
    assert data.info.kind == "sequence" and data.info.input_size == (2, 3)
    assert any("by_split has no split 'val' (ValueError: no such split)" in note for note in data.notes)


def test_any_other_builder_is_called_once(load: Any) -> None:
    data = build(
        load,
        CUSTOM + "once",
        val=0.25,
        test=0.25,
        offset=3.0,
        normalize="none",
        standardize_target=False,
        shuffle=False,
    )
    assert data.val is not None and data.test is not None
    assert [split.num_samples for split in (data.train, data.val, data.test)] == [7, 2, 3]
    assert data.info.task == "regression" and data.info.num_outputs == 2 and data.info.classes is None
    (batch,) = data.train.batches()
    assert batch.targets.dtype == torch.float32 and batch.targets.shape == (7, 2)
    torch.testing.assert_close(batch.inputs[:, 0, 0, 0], batch.targets[:, 0] + 3)


@pytest.mark.parametrize("name", ["pictures", "arrays"])
def test_pictures_and_byte_arrays_are_images(load: Any, name: str) -> None:
    data = build(load, CUSTOM + name, val="none", normalize="none", shuffle=False)
    (batch,) = data.train.batches()
    assert batch.inputs.shape == (12, 3, 4, 5)
    torch.testing.assert_close(batch.inputs[:, 0, 0, 0], torch.arange(12) / 255)
    assert batch.targets.tolist() == [0, 1, 2] * 4


def test_own_datasets_can_be_kept_in_memory(load: Any) -> None:
    kept = build(load, CUSTOM + "pictures", cache="memory", batch_size=5)
    assert isinstance(kept.train, MemorySplit)
    read = build(load, CUSTOM + "pictures", batch_size=5)
    assert any("data.cache=memory" in note for note in read.notes)
    for ours, theirs in zip(kept.train.batches(1), read.train.batches(1), strict=True):
        assert torch.equal(ours.inputs, theirs.inputs) and torch.equal(ours.targets, theirs.targets)


def bad_triple() -> Pairs:
    return Pairs((1, 2, 3))


def bad_string() -> Pairs:
    return Pairs(("a.png", 1))


def bad_array() -> Pairs:
    return Pairs((np.array(["a", "b"]), 1))


def bad_label() -> Pairs:
    return Pairs((torch.zeros(3), 1), (torch.zeros(3), "cat"))


def absurd_label() -> Pairs:
    return Pairs(*[(torch.zeros(3), 10**6 if index == 5 else index % 2) for index in range(12)])


def bad_one_hot() -> Pairs:
    return Pairs((torch.zeros(3), torch.tensor([0, 2])))


def bad_mixture() -> Pairs:
    return Pairs((torch.zeros(3), 1), (torch.zeros(3), 0.5))


def bad_shape() -> Pairs:
    return Pairs((torch.zeros(2, 3, 4, 5), 1))


def bad_negative() -> Pairs:
    return Pairs((torch.zeros(3), 1), (torch.zeros(3), -1), (torch.zeros(3), 0))


def bad_one_class() -> Pairs:
    return Pairs((torch.zeros(3), 0), (torch.zeros(3), 0))


def bad_nan() -> Pairs:
    return Pairs((torch.zeros(3), 0.5), (torch.zeros(3), float("nan")))


def bad_reader() -> Pairs:
    class Unreadable(Pairs):
        def __getitem__(self, index: int) -> Any:
            raise RuntimeError("no tape in the drive")

    return Unreadable(1, 2)


def bad_nothing() -> Pairs:
    return Pairs()


def bad_type() -> int:
    return 7


def bad_builder() -> Pairs:
    raise RuntimeError("out of order")


class WithClasses(Pairs):
    classes = ("a", "b")


def bad_count() -> Pairs:
    return WithClasses(*[(torch.zeros(3), index % 4) for index in range(8)])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bad_triple", r"bad_triple\[0\]: __getitem__ must give \(input, target\), got tuple of 3"),
        ("bad_string", r"bad_string\[0\]: the input must be a tensor, an array or a Pillow image, got str"),
        ("bad_array", r"bad_array\[0\]: the input must be an array of numbers, got dtype <U1"),
        ("bad_label", r"bad_label\[1\]: the target must be a number or numbers, got str"),
        ("absurd_label", "label 1000000 asks for 1,000,001 classes, but only 3 labels occur"),
        ("bad_one_hot", r"bad_one_hot\[0\]: the target must be one whole number .*got \[0, 2\]"),
        ("bad_mixture", r"bad_mixture\[1\]: target is torch.float32 of shape \(1,\), that of sample 0 is torch.int64"),
        ("bad_shape", r"bad_shape\[0\]: the input must have 1 .*got shape \(2, 3, 4, 5\)"),
        ("bad_negative", r"labels must be 0\.\.1; bad_negative\[1\] has label -1"),
        ("bad_count", r"labels must be 0\.\.1; bad_count\[2\] has label 2"),
        ("bad_one_class", "holds one class only"),
        ("bad_nan", r"targets must be finite; bad_nan\[1\] has nan"),
        ("bad_reader", r"bad_reader\[0\]: reading it raised RuntimeError: no tape in the drive"),
        ("bad_nothing", r"bad_nothing\(\) is empty"),
        ("bad_type", "bad_type gives a int; an object with __len__ and __getitem__ is needed"),
        ("bad_builder", "building bad_builder raised RuntimeError: out of order"),
    ],
)
def test_wrong_datasets_are_told_by_sample(load: Any, name: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        build(load, CUSTOM + name, val="none")
    assert "\n" not in str(caught.value)


def test_names_and_options_that_do_not_exist(load: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.name: no dataset 'digit'. Did you mean 'digits'\?"):
        build(load, "digit")
    with pytest.raises(ConfigError, match=r"data\.sze: unknown key for by_train. Did you mean 'size'\?"):
        build(load, CUSTOM + "by_train", sze=3)
    with pytest.raises(ConfigError, match=r"data\.name: .*has no 'by_trian'. Did you mean 'by_train'\?"):
        build(load, CUSTOM + "by_trian")
    with pytest.raises(ConfigError, match=r"data\.name: no file /nowhere/birds\.py"):
        build(load, "/nowhere/birds.py:Birds")


def not_finite() -> Pairs:
    return Pairs(*[(torch.full((3,), float("inf") if index == 5 else 1.0), index % 2) for index in range(12)])


def test_inputs_that_are_not_finite_are_told(load: Any) -> None:
    with pytest.raises(DataError, match="values that are not finite"):
        build_data(load({"name": f"{CUSTOM}not_finite", "val": "none"}), device=torch.device("cpu"), seed=0)
