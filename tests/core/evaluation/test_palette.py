"""Colours of classes: those of the config, else PASCAL VOC's."""

import pytest

from dlkit.core.evaluation import NOT_COUNTED, class_colors

# the colours of PASCAL VOC's 21 classes, as its development kit lists them
VOC = [
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
    (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128), (64, 128, 128), (192, 128, 128),
    (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
]  # fmt: skip


def test_without_colours_they_are_pascal_vocs():
    assert class_colors({}, 21) == class_colors(None, 21) == VOC
    colors = class_colors({"data": {"name": "maskfolder", "colors": None}}, 256)
    assert colors[255] == (224, 224, 192)  # of its borders
    assert len(set(colors)) == 256 and NOT_COUNTED not in colors


def test_colours_of_the_config_come_first():
    config = {"data": {"name": "maskfolder", "colors": {"ground": [1, 2, 3], "top": [230, 25, 75]}}}
    assert class_colors(config, 2) == [(1, 2, 3), (230, 25, 75)]
    assert class_colors(config, 3) == VOC[:3]  # a model of other classes


@pytest.mark.parametrize("color", [None, "red", [1, 2], [1, 2, 256], [1, 2, -1], [1, 2, True], [1, 2, 3.0]])
def test_what_is_no_colour_is_none(color):
    assert class_colors({"data": {"colors": {"ground": [1, 2, 3], "top": color}}}, 2) == VOC[:2]
    assert class_colors({"data": color}, 2) == VOC[:2]
