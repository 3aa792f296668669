"""Pictures with masks: how both are found and read, moved alike, and what is refused with the name of the file."""

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.core.data import IGNORED, build_data, open_data
from dlkit.errors import ConfigError, DataError

CPU = torch.device("cpu")
COLORS = {"ground": [0, 0, 0], "cat": [255, 0, 0], "dog": [0, 0, 255]}


def save(pixels, path, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, np.uint8), "P" if palette else None)
    if palette:
        image.putpalette(palette)
    image.save(path)


@pytest.fixture
def pairs(tmp_path):
    """Ten pictures whose pixels tell the class of their mask: 60 times it, and its place."""
    generator = np.random.default_rng(0)
    for number in range(10):
        mask = generator.integers(0, 3, (12, 10))
        save(60 * mask + 1, tmp_path / "images" / f"{number}.png")
        save(mask, tmp_path / "masks" / f"{number}.png")
    return tmp_path


def build(load, path, loss="auto", **data):
    section = {"name": "maskfolder", "path": str(path), "mode": "grey", "normalize": "none", "val": "none", **data}
    return build_data(load({"batch_size": 4, **section}, model="unet", loss=loss), device=CPU, seed=0)


def batches(load, path, **data):
    built = build(load, path, **data)
    return built, list(built.train.batches())


def classes_of(inputs):
    """The classes that pictures of the fixture tell, IGNORED outside of them."""
    pixels = (inputs[:, 0] * 255).round().long()
    return torch.where(pixels == 0, IGNORED, (pixels - 1) // 60)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_pictures_and_masks_come_together(load, pairs, cache):
    built, found = batches(load, pairs, cache=cache, num_workers=0)
    assert (built.info.task, built.info.num_outputs, built.info.input_size) == ("segmentation", 3, (1, 12, 10))
    for batch in found:
        assert batch.targets.dtype == torch.int64 and torch.equal(batch.targets, classes_of(batch.inputs))


MOVES = [
    {"name": "RandomCrop", "size": 8, "padding": 2},
    "RandomHorizontalFlip",
    "RandomVerticalFlip",
    "alternating_flip",
    {"name": "RandomRotation", "degrees": 40},
    {"name": "RandomAffine", "degrees": 20, "translate": [0.2, 0.2], "scale": [0.7, 1.3]},
    {"name": "Pad", "padding": 2},
    {"name": "Pad", "padding": [1, 2, 3, 4], "padding_mode": "reflect"},
    {"name": "CenterCrop", "size": 15},
    {"name": "CenterCrop", "size": [16, 6]},
    {"name": "Resize", "size": [31, 7], "interpolation": "nearest-exact"},
    {"name": "RandomCrop", "size": 15, "pad_if_needed": True},
    {"name": "RandomCrop", "size": 8, "padding": 2, "padding_mode": "edge"},
]
SINGLE_MOVES = [
    {"name": "RandomZoomOut", "p": 1, "side_range": [1.5, 1.5]},
    {"name": "RandomPerspective", "p": 1, "interpolation": "nearest"},
    {"name": "ElasticTransform", "alpha": 60.0, "sigma": 1.0, "interpolation": "nearest"},
    {"name": "RandomRotation", "degrees": [20, 20], "expand": True},
    {"name": "RandomResizedCrop", "size": 17, "interpolation": "nearest-exact"},
    {"name": "ScaleJitter", "target_size": [20, 20], "interpolation": "nearest-exact"},
]


def name_of(move):
    return move if isinstance(move, str) else move["name"]


@pytest.mark.parametrize("move", MOVES, ids=name_of)
@pytest.mark.parametrize("cache", ["memory", "none"])
def test_a_mask_moves_as_its_picture_and_nothing_outside_counts(load, pairs, move, cache):
    _, found = batches(load, pairs, transforms=[move], cache=cache, num_workers=0)
    for batch in found:
        assert torch.equal(batch.targets, classes_of(batch.inputs))


@pytest.mark.parametrize("move", SINGLE_MOVES, ids=name_of)
def test_so_it_does_where_torchvision_moves_single_samples(load, pairs, move):
    _, found = batches(load, pairs, transforms=[move, {"name": "CenterCrop", "size": 24}], num_workers=0)
    for batch in found:
        assert torch.equal(batch.targets, classes_of(batch.inputs))
        assert (batch.targets == IGNORED).any() and (batch.targets != IGNORED).any()


def test_all_that_brings_in_an_outside_together(load, pairs):
    moves = [*[move for move in MOVES if name_of(move) != "Resize"], {"name": "CenterCrop", "size": 40}]
    one, other = (batches(load, pairs, transforms=moves, cache=cache, num_workers=0)[1] for cache in ("memory", "none"))
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first.targets, classes_of(first.inputs))
        assert torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets)


def test_masks_are_resized_as_by_image_size(load, pairs):
    by_transform = batches(load, pairs, transforms=[{"name": "Resize", "size": [5, 4]}])[1]
    by_size = batches(load, pairs, image_size=[5, 4])[1]
    for first, second in zip(by_transform, by_size, strict=True):
        assert torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets)


def test_the_same_moves_in_memory_and_sample_by_sample(load, pairs):
    moves = [{"name": "RandomAffine", "degrees": 30, "interpolation": "bilinear"}, "RandomHorizontalFlip"]
    one, other = (batches(load, pairs, transforms=moves, cache=cache, num_workers=0)[1] for cache in ("memory", "none"))
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets)


def test_single_transforms_get_both_and_masks_keep_whole_classes(load, pairs):
    moves = [
        {"name": "RandomResizedCrop", "size": 16},
        {"name": "RandomPerspective", "p": 1},
        {"name": "ColorJitter", "brightness": 0.5},
    ]
    _, found = batches(load, pairs, transforms=moves, num_workers=0)
    for batch in found:
        assert batch.inputs.shape[-2:] == batch.targets.shape[-2:] == (16, 16)
        assert set(batch.targets.unique().tolist()) <= {0, 1, 2, IGNORED}
    assert any((batch.targets == IGNORED).any() for batch in found)


def test_erasing_leaves_the_mask(load, pairs):
    _, found = batches(load, pairs, transforms=[{"name": "RandomErasing", "p": 1}])
    changed = [~torch.equal(batch.targets, classes_of(batch.inputs)) for batch in found]
    assert all(changed) and all((batch.targets != IGNORED).all() for batch in found)


def test_sizes_are_fitted_alike(load, pairs):
    _, found = batches(load, pairs, image_size=[24, 20])
    for batch in found:  # the middle of each pixel of twice the size is that of one pixel
        assert batch.inputs.shape[-2:] == batch.targets.shape[-2:] == (24, 20)
        assert torch.equal(batch.targets[:, ::2, ::2], batch.targets[:, 1::2, 1::2])


def test_colours_names_and_what_is_not_counted(load, pairs):
    values = torch.tensor(list(COLORS.values()), dtype=torch.uint8)
    plain = batches(load, pairs)[1]
    for path in (pairs / "masks").iterdir():
        mask = torch.from_numpy(np.array(Image.open(path)).astype(np.int64))
        save(values[mask], path)
    built, found = batches(load, pairs, colors=COLORS)
    assert built.info.classes == tuple(COLORS)
    assert all(torch.equal(one.targets, two.targets) for one, two in zip(plain, found, strict=True))
    some = {name: color for name, color in COLORS.items() if name != "dog"}
    _, found = batches(load, pairs, colors=some, ignored_colors=[COLORS["dog"]])
    assert all(torch.equal(one.targets == 2, two.targets == IGNORED) for one, two in zip(plain, found, strict=True))


def test_palettes_are_indices_and_suffixes_name_masks(load, pairs):
    plain = batches(load, pairs)[1]
    for path in list((pairs / "masks").iterdir()):
        save(np.array(Image.open(path)), path.with_name(f"{path.stem}_mask.png"), [9, 9, 9, 200, 0, 0, 0, 0, 200])
        path.unlink()
    _, found = batches(load, pairs, suffix="_mask")
    assert all(torch.equal(one.targets, two.targets) for one, two in zip(plain, found, strict=True))


def test_pictures_and_masks_in_one_folder_are_told_apart_by_the_suffix(load, pairs):
    plain = batches(load, pairs)[1]
    with pytest.raises(ConfigError, match=r"data\.masks: is the folder of pictures too; data\.suffix"):
        batches(load, pairs, masks="images")
    for path in (pairs / "masks").iterdir():
        path.rename(pairs / "images" / f"{path.stem}_mask.png")
    _, found = batches(load, pairs, masks="images", suffix="_mask")
    assert all(torch.equal(one.targets, two.targets) for one, two in zip(plain, found, strict=True))


def test_a_mask_that_cannot_be_read_is_skipped_where_classes_are_counted(load, pairs):
    (pairs / "masks" / "3.png").write_text("no image")
    built = build(load, pairs, on_bad="skip")
    assert (built.info.num_outputs, built.train.num_samples) == (3, 9)
    for path in (pairs / "masks").iterdir():
        path.write_text("no image")
    with pytest.raises(DataError, match=r"10 samples cannot be used:\n.*masks.0\.png: not a readable image"):
        build(load, pairs, on_bad="skip")


def test_ignore_index_is_a_number_of_the_files(load, pairs):
    built = build(load, pairs, {"name": "cross_entropy", "ignore_index": 2})
    assert built.info.num_outputs == 2
    for batch in built.train.batches():
        assert torch.equal(batch.targets == IGNORED, classes_of(batch.inputs) == 2)


def broken(name, pixels, palette=None):
    return lambda folder: save(pixels, folder / "masks" / f"{name}.png", palette)


@pytest.mark.parametrize(
    ("damage", "options", "words"),
    [
        (broken(3, np.zeros((12, 9))), {}, r"masks.3\.png: the mask is 12x9, its picture .*3\.png is 12x10"),
        (broken(3, np.full((12, 10), 3)), {"classes": ["a", "b", "c"]}, r"masks.3\.png: class 3 is not among 0\.\.2; .*row 0, column 0"),
        (broken(3, np.full((12, 10), 200)), {"classes": ["a", "b", "c"]}, r"masks.3\.png: class 200 is not among 0\.\.2"),
        (broken(3, np.zeros((12, 10, 3))), {}, r"masks.3\.png: its pixels are RGB, .*data\.colors"),
        (broken(3, np.full((12, 10, 3), 7)), {"colors": COLORS}, r"masks.3\.png: the colour \[7, 7, 7\] is none of data\.colors"),
        (lambda folder: (folder / "masks" / "3.png").unlink(), {}, r"3\.png has no mask: .*masks.3\.png is not there"),
        (lambda folder: (folder / "masks" / "3.png").rename(folder / "masks" / "3.jpg"), {}, r"3\.jpg: masks are PNG files"),
        (broken(3, np.full((12, 10), 255)), {"classes": ["a", "b"]}, r"masks.3\.png: class 255 .* black and white set data\.colors"),
        (broken(3, np.full((12, 10), 255)), {}, r"masks of 256 classes.*loss\.ignore_index: 255 .* black and white set data\.colors"),
        (lambda folder: (folder / "masks").rename(folder / "labels"), {}, r"masks: no such folder"),
    ],
    ids=["size", "class", "far", "rgb", "colour", "missing", "jpeg", "white", "uncounted", "folder"],
)  # fmt: skip
@pytest.mark.parametrize("cache", ["memory", "none", "disk"])
def test_what_is_wrong_with_a_mask_is_told_before_training(load, pairs, damage, options, words, cache):
    damage(pairs)
    if cache == "disk":
        options = {**options, "cache_dir": str(pairs / "cache"), "transforms": CROP}
    if "colors" in options:
        for path in (pairs / "masks").iterdir():
            if path.stem != "3":
                save(np.zeros((12, 10, 3)), path)
    if len(options.get("classes", [])) == 2:
        for path in (pairs / "masks").iterdir():
            if path.stem != "3":
                save(np.zeros((12, 10)), path)
    with pytest.raises(DataError, match=words) as caught:
        build(load, pairs, cache=cache, **options)
    assert "\n" not in str(caught.value)


def rename(folder, old, new):
    (folder / old).rename(folder / new)


def write_16_bits(folder):
    for path in list(folder.iterdir()):
        Image.fromarray(np.array(Image.open(path)).astype(">u2")).save(path.with_suffix(".tif"))
        path.unlink()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: [path.with_suffix(ending).touch() for path in (folder / "masks").iterdir() for ending in (".txt", ".xml", ".jpg")],
        lambda folder: (rename(folder / "images", "9.png", "9\u00e4.png"), rename(folder / "masks", "9.png", "9a\u0308.png")),
        lambda folder: write_16_bits(folder / "masks"),
    ],
    ids=["other files", "accents", "16 bits"],
)  # fmt: skip
def test_a_mask_is_found_whatever_else_is_there_and_however_its_name_and_numbers_are_written(load, pairs, change):
    plain = batches(load, pairs)[1]
    change(pairs)
    _, found = batches(load, pairs)
    assert all(torch.equal(one.targets, two.targets) for one, two in zip(plain, found, strict=True))


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_pictures_of_other_sizes_are_told_with_their_own(load, pairs, cache):
    for folder in ("images", "masks"):
        save(np.zeros((8, 8)), pairs / folder / "3.png")
    with pytest.raises(DataError, match=r"1x8x8 uint8 .*1x12x10 uint8|\(8x8, 12x10\)"):
        batches(load, pairs, cache=cache, num_workers=0)


CROP = [{"name": "RandomResizedCrop", "size": 12}]  # has no form for whole batches, so that samples are read one by one


def test_masks_are_decoded_once(load, pairs, monkeypatch):
    def read(**options):
        opened = []
        with monkeypatch.context() as patch:
            patch.setattr(Image, "open", lambda path, real=Image.open: (opened.append(str(path)), real(path))[1])
            built, found = batches(load, pairs, transforms=CROP, num_workers=0, classes=["a", "b", "c"], **options)
            return [*found, *built.train.batches(1)], len(opened)

    disk = {"cache": "disk", "cache_dir": str(pairs / "cache")}
    wanted, _ = read(cache="none")
    runs = [read(**disk), read(**disk)]
    assert runs[1][1] == 2  # picture and mask of the sample that a config is tried on
    for found, _ in runs:
        for mine, theirs in zip(found, wanted, strict=True):
            assert torch.equal(mine.inputs, theirs.inputs) and torch.equal(mine.targets, theirs.targets)
    save(2 - np.array(Image.open(pairs / "masks" / "3.png")), pairs / "masks" / "3.png")
    changed, num_opened = read(**disk)
    assert num_opened == 2 + 2  # the size that is coming is told by the first one that changed
    assert [torch.equal(mine.targets, theirs.targets) for mine, theirs in zip(changed, wanted, strict=True)].count(
        False
    ) == 2


def test_decoded_masks_of_other_classes_are_others(load, pairs):
    disk = {"cache": "disk", "cache_dir": str(pairs / "cache"), "transforms": CROP, "num_workers": 0}
    plain = batches(load, pairs, **disk)[1]
    built = build(load, pairs, {"name": "cross_entropy", "ignore_index": 1}, **disk)
    for one, two in zip(plain, built.train.batches(), strict=True):
        assert torch.equal(torch.where(one.targets == 1, IGNORED, one.targets), two.targets)


def test_options_and_tasks_that_cannot_be_are_refused(load, pairs):
    for options, words in (
        ({"colors": {"a": [0, 0], "b": [1, 1, 1]}}, "red, green and blue"),
        ({"colors": {"a": [1, 1, 1], "b": [1, 1, 1]}}, "the same colour"),
        ({"classes": ["a", "a"]}, "two different names"),
        ({"classes": [0, 1, 2]}, "names are texts, got 0"),
        ({"classes": ["a", None, "c"]}, "names are texts, got None"),
        ({"ignored_colors": [[1, 2, 3]]}, "belongs to colors"),
        ({"batch_transforms": ["mixup"]}, "blend labels"),
        ({"transforms": ["RandAugment"]}, "moves pictures without their masks; flips"),
    ):
        with pytest.raises(ConfigError, match=words):
            batches(load, pairs, **options)
    for task, name in (("segmentation", "digits"), ("classification", "maskfolder")):
        data = {"name": name, **({"path": str(pairs)} if name == "maskfolder" else {})}
        with pytest.raises(ConfigError, match="masks"):
            open_data(load(data, task=task), seed=0)
