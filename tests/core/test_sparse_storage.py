"""Weights that are mostly zeros in model files: how many bytes they take, and that they come back bit for bit."""

import json

import pytest
import torch

import dlkit as dlkit_package
from dlkit.core.modelfile import build_from_file, read_model_file, save_model_file
from dlkit.core.sparse_storage import pack_tensors, unpack_tensors
from dlkit.errors import FileRefused


def bits(tensor):
    return tensor.contiguous().flatten().view(torch.uint8)


def test_packed_tensors_come_back_bit_for_bit():
    torch.manual_seed(0)
    tensors = {
        "float": torch.randn(64, 33),
        "small": torch.zeros(10),
        "double": torch.randn(40, 40, dtype=torch.float64),
        "whole": torch.zeros(500, dtype=torch.int64),
        "half": torch.randn(30, 3, 3, 5).half(),
        "brain": torch.randn(300, 9).bfloat16(),
    }
    for name in ("float", "double", "half", "brain"):
        tensors[name][torch.rand(tensors[name].shape) < 0.8] = 0
    tensors["float"][0, :3] = torch.tensor([-0.0, torch.nan, torch.inf])
    tensors |= {"tied": tensors["float"], "zeros": torch.zeros(30, 10)}
    dense, sparse = pack_tensors(tensors)
    assert list(dense) == ["small", "whole"]
    found = unpack_tensors(dense, sparse, most_numbers=10**6)
    assert list(found) == list(tensors) and found["tied"] is found["float"]
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert torch.equal(bits(found[name]), bits(tensor))


def test_weights_without_zeros_stay_as_they_are():
    assert pack_tensors({"weight": torch.randn(64, 64)})[1] is None
    fresh = {"weight": torch.randn(64, 64), "norm.bias": torch.zeros(4096), "head.weight": torch.zeros(5, 64)}
    assert list(pack_tensors(fresh)[0]) == list(fresh) and pack_tensors(fresh)[1] is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    values = {
        "data": {"name": "digits", "limit": 200},
        "model": "small_cnn",
        "train": {"epochs": 1},
        "log": {"tensorboard": False},
    }
    out = tmp_path_factory.mktemp("sparse") / "run"
    dlkit_package.train(values, out=out)
    return out / "model.pt"


@pytest.mark.parametrize(("amount", "most"), [("80%", 0.30), ("95%", 0.12)])
def test_a_masked_network_takes_few_bytes_and_every_command_reads_it(dlkit, trained, tmp_path, amount, most):
    path = tmp_path / "p.pt"
    made = dlkit("prune", trained, "--amount", amount, "--scope", "global", "--no-latency", "-o", path, "--json")
    assert made.code == 0, made.err
    facts = json.loads(made.out)
    assert path.stat().st_size <= most * trained.stat().st_size
    assert facts["stored_bytes"]["stored"] <= most * facts["stored_bytes"]["dense"]
    assert any("instead of" in sentence for sentence in facts["sentences"])
    plain = torch.load(path, weights_only=True)
    assert plain["version"] == 2 and plain["sparse"]["packed"][0]["bitmap"].dtype == torch.uint8
    file = read_model_file(path)
    dense = tmp_path / "dense.pt"  # the same network, as an own tool would store it
    torch.save({**{k: plain[k] for k in ("format", "spec")}, "version": 1, "state_dict": file.state_dict}, dense)
    x = torch.rand(3, *file.spec.info.input_size)
    with torch.no_grad():
        assert torch.equal(build_from_file(file)(x), build_from_file(read_model_file(dense))(x))
    for command in (("eval",), ("inspect",), ("export", "--format", "safetensors", "-o", tmp_path / "w.safetensors")):
        outcome = dlkit(command[0], path, *command[1:])
        assert outcome.code == 0, outcome.err
    started = dlkit_package.load_model(path)
    assert all(torch.equal(started.state_dict()[name], tensor) for name, tensor in file.state_dict.items())


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")
def test_matrices_of_torch_are_written_for_other_tools(dlkit, trained, tmp_path):
    made = dlkit("prune", trained, "--amount", "90%", "--scope", "global", "--no-latency", "-o", tmp_path / "p.pt")
    assert made.code == 0, made.err
    path = tmp_path / "sparse.pt"
    outcome = dlkit("export", tmp_path / "p.pt", "--format", "sparse", "-o", path)
    assert outcome.code == 0, outcome.err
    weights = torch.load(path, weights_only=True)
    layouts = {tensor.layout for tensor in weights.values()}
    assert layouts <= {torch.strided, torch.sparse_csr, torch.sparse_csc} and len(layouts) > 1
    for name, tensor in read_model_file(tmp_path / "p.pt").state_dict.items():
        assert torch.equal(weights[name].to_dense().reshape(tensor.shape), tensor)
    refused = dlkit("export", trained, "--format", "sparse", "-o", tmp_path / "none.pt")
    assert refused.code == 2 and "--format state-dict is smaller" in refused.err and not (tmp_path / "none.pt").exists()


@pytest.mark.parametrize("broken", ["values", "bitmap", "shapes", "order", "tied"])
def test_broken_packed_weights_are_refused(trained, tmp_path, broken):
    file = read_model_file(trained)
    state = {name: tensor.masked_fill(tensor.abs() < 0.02, 0) for name, tensor in file.state_dict.items()}
    save_model_file(tmp_path / "p.pt", file.spec, state)
    value = torch.load(tmp_path / "p.pt", weights_only=True)
    block = value["sparse"]["packed"][0]
    if broken in ("values", "bitmap"):
        block[broken] = block[broken][:-1]
    elif broken == "shapes":
        block["shapes"] = {name: [10**9, 10**9] for name in block["shapes"]}
    else:
        value["sparse"][broken] = {"order": ["fc.weight"], "tied": {"fc.weight": "nowhere"}}[broken]
    torch.save(value, tmp_path / "broken.pt")
    with pytest.raises(FileRefused, match="sparse weights cannot be read"):
        read_model_file(tmp_path / "broken.pt")
