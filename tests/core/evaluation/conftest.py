"""Model files whose own config says other things."""

import pytest
import torch

from dlkit.core.modelfile import read_model_file


@pytest.fixture
def with_data(trained, tmp_path):
    """The model file that the tests of a module train, with another data section in its own config."""

    def change(**changes):
        value = torch.load(trained, weights_only=True)
        value["spec"]["config"]["data"] |= changes
        torch.save(value, tmp_path / "changed.pt")
        return read_model_file(tmp_path / "changed.pt")

    return change
