"""Sizes of layers in a model file: what a file may say, and what is refused instead of being run."""

import pytest
import torch

import dlkit
from dlkit.core.data import DataInfo
from dlkit.core.modelfile import ModelSpec, save_model_file
from dlkit.core.models import Arch, build_model
from dlkit.errors import FileRefused
from dlkit.prune.channels import resize

HOSTILE = {
    "no sizes": ({}, "lists no sizes"),
    "sizes that are a list": ({"sizes": []}, "lists no sizes"),
    "a layer that is not there": ({"sizes": {"nowhere": {"out_features": 1}}}, "no layer 'nowhere'"),
    "a layer of Python": ({"sizes": {"__class__": {"out_features": 1}}}, "no layer '__class__'"),
    "an attribute that is no size": ({"sizes": {"1": {"forward": 1}}}, "has no sizes"),
    "a size of zero": ({"sizes": {"1": {"out_features": 0}}}, "from 1 to 16, got 0"),
    "a negative size": ({"sizes": {"1": {"out_features": -1}}}, "from 1 to 16"),
    "a larger size": ({"sizes": {"1": {"out_features": 10**12}}}, "from 1 to 16"),
    "a truth as a size": ({"sizes": {"1": {"out_features": True}}}, "from 1 to 16, got True"),
    "text as a size": ({"sizes": {"1": {"out_features": "4"}}}, "from 1 to 16"),
    "half a size": ({"sizes": {"1": {"out_features": 1.5}}}, "from 1 to 16"),
    "a parameter that is not there": ({"sizes": {}, "parameters": {"nothing": [1]}}, "no parameter 'nothing'"),
    "a shape that does not fit": ({"sizes": {}, "parameters": {"1.weight": [1]}}, "does not fit into"),
    "a shape of text": ({"sizes": {}, "parameters": {"1.weight": "16"}}, "is no shape"),
    "sizes that do not fit the weights": ({"sizes": {"1": {"out_features": 4}}}, "size mismatch"),
}


ARCH = Arch("dlkit", "mlp", {"hidden": [16], "num_classes": 3, "input_size": [1, 2, 2]})
INFO = DataInfo("classification", "image", (1, 2, 2), 3, ("a", "b", "c"), None, None)


@pytest.fixture
def network():
    """Linear layers named 1 and 3, of 16 and 3 outputs."""
    return build_model(ARCH)


@pytest.fixture
def save(tmp_path):
    """Write a model file of a network with this change listed, and give its path."""

    def save_with(network, entry):
        path = tmp_path / "m.pt"
        save_model_file(path, ModelSpec(ARCH, INFO, transforms=({"op": "prune", **entry},)), network.state_dict())
        return path

    return save_with


@pytest.mark.parametrize("name", HOSTILE)
def test_sizes_that_cannot_be_are_refused(name, save, network):
    entry, words = HOSTILE[name]
    with pytest.raises(FileRefused, match=words):
        dlkit.load_model(save(network, entry))


def test_sizes_that_fit_are_taken(save, network):
    entry = {"sizes": {"1": {"out_features": 4}, "3": {"in_features": 4}}, "parameters": {}}
    resize(network, entry["sizes"], {})
    again = dlkit.load_model(save(network, entry))
    assert again.get_submodule("1").out_features == 4 and again(torch.zeros(2, 1, 2, 2)).shape == (2, 3)
