"""An auxiliary head from training to int8: kept in the model file, left out where a network is pruned or quantized."""

import subprocess
import sys

import pytest
import torch

import dlkit as package
from dlkit.core.modelfile import read_model_file

CONFIG = """
task: segmentation
data: {name: fake, num_samples: 12, shape: [3, 32, 32], num_classes: 3, batch_size: 4}
model: {name: deeplabv3_mobilenet_v3_large, aux_weight: 0.4}
train: {epochs: 1, max_steps: 2}
log: {tensorboard: false}
"""
LOOK = """
import sys, torch, dlkit
network = dlkit.load_model(sys.argv[1])
torch.manual_seed(0)
x = torch.randn(2, 3, 32, 32)
with torch.no_grad():
    maps, outputs = network(x), network.train()(x)
torch.save([maps, outputs.weight, outputs.auxiliary.shape, dict(network.aux_classifier[4].named_parameters())], sys.argv[2])
"""


def has_head(path):
    return any(name.startswith("aux_classifier.") for name in read_model_file(path).state_dict)


@pytest.mark.slow
def test_it_is_kept_where_it_trains_and_left_out_where_it_does_not(dlkit, write_config, tmp_path):
    done = dlkit("train", write_config(CONFIG), "--out", tmp_path / "run")
    assert done.code == 0, done.err
    model = tmp_path / "run" / "model.pt"
    subprocess.run([sys.executable, "-c", LOOK, model, tmp_path / "seen.pt"], check=True)
    maps, weight, shape, head = torch.load(tmp_path / "seen.pt")
    network = package.load_model(model)
    torch.manual_seed(0)
    with torch.no_grad():
        assert torch.equal(maps, network(torch.randn(2, 3, 32, 32)))
    assert weight == 0.4 and shape == (2, 3, 32, 32)
    assert all(torch.equal(value, network.aux_classifier[4].get_parameter(name)) for name, value in head.items())
    judged = dlkit("eval", model)
    assert judged.code == 0 and has_head(model)
    for command, *options in (
        ("prune", "--amount", "50%", "--seconds", "0.01"),
        ("quantize", "--static", "--no-latency", "--calib", "4"),
    ):
        path = tmp_path / f"{command}d.pt"
        done = dlkit(command, model, *options, "-o", path)
        assert done.code == 0, done.err
        assert "left out: the auxiliary head of deeplabv3_mobilenet_v3_large" in " ".join(done.err.split())
        assert not has_head(path)
        with torch.no_grad():
            assert package.load_model(path)(torch.randn(2, 3, 32, 32)).shape == (2, 3, 32, 32)
