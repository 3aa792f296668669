"""Whole pictures under windows, against plain loops over pixels."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import dlkit
from dlkit.config import load_mapping
from dlkit.core.data import whole_picture
from dlkit.core.evaluation import EvalRequest, Mosaic, predict_maps, run_evaluation
from dlkit.core.modelfile import load_model, read_model_file
from dlkit.errors import DataError, UsageError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data = {"name": "fake", "num_samples": 40, "shape": [3, 16, 24], "num_classes": 3, "batch_size": 8}
    config = {"task": "segmentation", "data": data, "model": {"name": "unet", "width": 4, "depth": 2}}
    config |= {"train": {"epochs": 1}, "log": {"tensorboard": False}}
    return dlkit.train(config, out=tmp_path_factory.mktemp("run") / "run").model_path


def pictures(tmp_path, *sizes):
    paths = []
    for number, (height, width) in enumerate(sizes):
        noise = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(number))
        coarse = F.interpolate(noise.permute(2, 0, 1)[None].float(), scale_factor=4)[0, :, :height, :width]
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(coarse.byte().permute(1, 2, 0).numpy()).save(paths[-1])
    return paths


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_windows_cover_every_pixel_and_share_what_they_should(overlap):
    for window in (1, 2, 7, 16):
        for side in range(1, 60):
            mosaic = Mosaic(torch.zeros(1, side, 1), (window, 1), overlap)
            starts = [row for row, _ in mosaic.corners]
            covered = {pixel for start in starts for pixel in range(start, start + window)}
            assert set(range(side)) <= covered and starts[0] == 0 and sorted(set(starts)) == starts
            assert starts[-1] + window == max(side, window)
            steps = [later - earlier for earlier, later in itertools.pairwise(starts)]
            assert all(step <= max(1, math.floor(window * (1 - overlap))) + 1 for step in steps)


def test_the_mean_weighs_windows_by_their_distance_to_the_edge():
    size, overlap = (8, 6), 0.5
    picture = torch.rand(2, 19, 14, generator=torch.Generator().manual_seed(0))
    mosaic = Mosaic(picture, size, overlap)
    sums, weights = torch.zeros(4, 19, 14, dtype=torch.float64), torch.zeros(19, 14, dtype=torch.float64)
    for top, left in mosaic.corners:
        found = torch.rand(4, *size, generator=torch.Generator().manual_seed(top * 100 + left))
        assert mosaic.window((top, left)).equal(picture[:, top : top + 8, left : left + 6])
        mosaic.add((top, left), found)
        for row in range(8):
            for column in range(6):
                weight = min(row + 0.5, 7.5 - row) * min(column + 0.5, 5.5 - column)
                sums[:, top + row, left + column] += weight * found[:, row, column].double()
                weights[top + row, left + column] += weight
    assert mosaic.classes((19, 14)).equal((sums / weights).argmax(0).byte())
    scaled = F.interpolate((sums / weights)[None], (38, 21), mode="bilinear", antialias=True)[0]
    assert (
        mosaic.classes((38, 21)) == scaled.argmax(0)
    ).double().mean() > 0.999  # float32, so that ties may fall otherwise


def test_a_picture_smaller_than_a_window_is_continued_and_cut_again():
    picture = torch.arange(6.0).view(1, 2, 3)
    mosaic = Mosaic(picture, (4, 4), 0.5)
    assert mosaic.corners == [(0, 0)]
    window = mosaic.window((0, 0))
    assert window[0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    mosaic.add((0, 0), torch.cat([window, 2.5 - window + window.round()]))
    assert mosaic.classes((2, 3)).shape == (2, 3)


def test_a_picture_of_the_networks_size_gets_what_the_network_says(trained, tmp_path):
    (path,) = pictures(tmp_path, (16, 24))
    file, network = read_model_file(trained), load_model(trained).eval()
    found = next(predict_maps(file, [path]))
    inputs = whole_picture(None, file.spec.info)(found.picture)
    with torch.no_grad():
        assert found.mask.equal(network(inputs[None])[0].argmax(0).byte())
    assert sum(share for _, share in found.answer.pixels) == pytest.approx(1)


def test_pictures_are_scaled_as_in_evaluation_but_not_cut(with_data, trained, tmp_path):
    # twice as high as wide where the network takes 16x24: scaled to 48x24, under five windows
    (path,) = pictures(tmp_path, (100, 50))
    file, network = with_data(image_size=[16, 24]), load_model(trained).eval()
    found = next(predict_maps(file, [path]))
    inputs = whole_picture(config_of(file), file.spec.info)(found.picture)
    assert inputs.shape == (3, 48, 24) and found.mask.shape == (100, 50)
    sums, weights = torch.zeros(3, 48, 24), torch.zeros(48, 1)
    for top in (0, 8, 16, 24, 32):
        weight = torch.tensor([min(row + 0.5, 15.5 - row) for row in range(16)])[:, None]
        with torch.no_grad():
            sums[:, top : top + 16] += network(inputs[None, :, top : top + 16])[0].softmax(0) * weight
        weights[top : top + 16] += weight
    wanted = F.interpolate((sums / weights)[None], (100, 50), mode="bilinear")[0].argmax(0)
    assert (found.mask == wanted).double().mean() > 0.999


def config_of(file):
    return load_mapping(dict(file.spec.config))


@pytest.mark.parametrize(
    ("changes", "keeps_scale", "size"),
    [
        ({}, False, (60, 40)),  # nothing asks for a size, so that evaluation takes pictures as they are
        ({"image_size": [16, 24]}, False, (36, 24)),
        ({"image_size": [16, 24]}, True, (60, 40)),
        (
            {"eval_transforms": [{"name": "Resize", "size": [30, 30]}, {"name": "CenterCrop", "size": 16}]},
            False,
            (30, 30),
        ),
        ({"eval_transforms": [{"name": "CenterCrop", "size": 16}]}, False, (60, 40)),
        ({"fitting": {"resize_size": [20, 30], "crop_mode": "squash"}, "image_size": [16, 24]}, False, (20, 30)),
    ],
)
def test_the_scale_is_that_of_evaluation(with_data, changes, keeps_scale, size):
    file = with_data(**changes)
    prepare = whole_picture(config_of(file), file.spec.info, keeps_scale=keeps_scale)
    assert prepare(torch.zeros(3, 60, 40, dtype=torch.uint8)).shape == (3, *size)


def test_a_transform_that_pads_is_refused(with_data, tmp_path):
    file = with_data(eval_transforms=[{"name": "Pad", "padding": 2}])
    with pytest.raises(DataError, match="Pad changes the size of pictures"):
        next(predict_maps(file, pictures(tmp_path, (16, 24))))


def test_pictures_of_many_sizes_keep_their_order(trained, tmp_path):
    sizes = [(16, 24), (70, 90), (5, 7), (16, 24), (33, 21)] * 4
    paths = pictures(tmp_path, *sizes)
    paths[2].write_bytes(b"no picture")
    file = read_model_file(trained)
    together = list(predict_maps(file, paths))
    assert [one.path for one in together] == paths and "not a readable image" in together[2].answer.problem
    for one, size in zip(together, sizes, strict=True):
        if one.mask is not None:
            assert one.mask.shape == size
            assert one.mask.equal(next(predict_maps(file, [one.path])).mask)


def test_pictures_of_the_networks_size_score_the_same_under_windows(trained):
    file = read_model_file(trained)
    plain, whole = (run_evaluation(file, EvalRequest(uses_windows=windows)) for windows in (False, True))
    assert whole.confusion == plain.confusion and whole.num_samples == plain.num_samples
    assert whole.metrics == {name: value for name, value in plain.metrics.items() if name != "loss"}


def test_large_pictures_are_scored_at_their_own_size(trained, tmp_path):
    for split in ("train", "test"):
        for folder in ("images", "masks"):
            (tmp_path / split / folder).mkdir(parents=True)
        (path,) = pictures(tmp_path / split / "images", (40, 50))
        mask = torch.randint(0, 3, (40, 50), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
        mask[:3] = 255
        Image.fromarray(mask.numpy()).save(tmp_path / split / "masks" / path.name)
    config = {
        "name": "maskfolder",
        "path": str(tmp_path),
        "classes": ["0", "1", "2"],
        "image_size": [16, 24],
        "val": "none",
    }
    loaded = load_mapping(
        {
            "task": "segmentation",
            "data": config,
            "model": "unet",
            "loss": {"name": "cross_entropy", "ignore_index": 255},
        }
    )
    file = read_model_file(trained)
    result = run_evaluation(file, EvalRequest(data=loaded, uses_windows=True, overlap=0.25))
    said = next(predict_maps(file, [path], keeps_scale=True, overlap=0.25)).mask
    wanted = [[int(((mask == true) & (said == given)).sum()) for given in range(3)] for true in range(3)]
    assert result.confusion == wanted and sum(map(sum, wanted)) == 37 * 50


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"uses_windows": True, "use_tta": True}, "--tta does not go with --sliding-window"),
        ({"uses_windows": True, "overlap": 0.95}, "from 0 to 0.9; got 0.95"),
        ({"overlap": 0.5}, "add --sliding-window"),
    ],
)
def test_what_does_not_go_together_is_refused(trained, changes, words):
    with pytest.raises(UsageError, match=words):
        run_evaluation(read_model_file(trained), EvalRequest(**changes))


def test_a_network_of_whole_pictures_has_no_windows(tmp_path):
    data = {"name": "fake", "num_samples": 16, "shape": [1, 8, 8], "num_classes": 2, "batch_size": 8}
    config = {"data": data, "model": "mlp", "train": {"epochs": 1}, "log": {"tensorboard": False}}
    model = dlkit.train(config, out=tmp_path / "run").model_path
    with pytest.raises(UsageError, match="says no class for each pixel"):
        run_evaluation(read_model_file(model), EvalRequest(uses_windows=True))
