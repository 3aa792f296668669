"""Model files: what they hold, what reading them refuses, and that reading never runs anybody's code."""

import pickle
import random
import zipfile

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from dlkit.core.data import DataInfo
from dlkit.core.modelfile import ModelSpec, load_model, read_model_file, save_model_file
from dlkit.core.models import Arch, build_model
from dlkit.errors import DlkitError, FileRefused

INFO = DataInfo("classification", "image", (3, 32, 32), 5, ("a", "b", "c", "d", "e"), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
RESNET = Arch("torchvision", "resnet18", {"num_classes": 5, "in_channels": 3})


@pytest.fixture
def saved(tmp_path):
    model = build_model(RESNET)
    save_model_file(tmp_path / "model.pt", ModelSpec(RESNET, INFO), model.state_dict())
    return tmp_path / "model.pt", model.eval()


def test_round_trip(saved):
    path, model = saved
    inputs = torch.randn(2, 3, 32, 32)
    loaded = load_model(path)
    assert torch.equal(loaded(inputs), model(inputs)) and not loaded.training
    assert loaded.dlkit_spec.info == INFO


def test_torchvision_takes_the_weights(saved):
    path, model = saved
    plain = resnet18(num_classes=5)
    plain.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    inputs = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain.eval()(inputs), model(inputs))


def test_a_users_class_must_be_named_again(tmp_path):
    arch = Arch("user", "no_such_module:Net", {"num_classes": 5})
    net = nn.Linear(4, 5)
    save_model_file(tmp_path / "model.pt", ModelSpec(arch, INFO), net.state_dict())
    with pytest.raises(FileRefused, match="name it again: --model no_such_module:Net"):
        load_model(tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt", model=lambda num_classes: nn.Linear(4, num_classes))
    assert torch.equal(loaded.weight, net.weight)


def changed(path, change):
    value = torch.load(path, weights_only=True)
    change(value)
    torch.save(value, path)
    return path


@pytest.mark.parametrize(("change", "words"), [
    (lambda value: value.update(format="other"), "without a description"),
    (lambda value: value.update(version=99), "version 99"),
    (lambda value: value["spec"].pop("arch"), "it has no spec.arch"),
    (lambda value: value["spec"]["arch"].update(registry="os"), "cannot be read"),
    (lambda value: value["spec"]["arch"].update(name="os:system"), "cannot be built"),
    (lambda value: value["spec"]["arch"]["options"].update(num_classes=10**12), "do not fit|cannot be built"),
    (lambda value: value["spec"]["arch"]["options"].update(num_classes=6), "do not fit"),
    (lambda value: value["spec"]["arch"]["options"].update(weights="DEFAULT"), "cannot be built"),
    (lambda value: value["spec"]["input"].update(input_size=["x"]), "cannot be read"),
    (lambda value: value["state_dict"].pop("fc.weight"), "missing: fc.weight"),
    (lambda value: value["state_dict"].update(extra=torch.zeros(1)), "unexpected: extra"),
    (lambda value: value["state_dict"].update({"fc.bias": torch.zeros(1).expand(5)}), "larger than the bytes"),
    (lambda value: value.update(state_dict=[1]), "state_dict should be a valid dictionary"),
    (lambda value: value.update(state_dict={"x": 1}), "state_dict.x should be an instance of Tensor"),
    (lambda value: value["spec"].update(transforms={"op": "prune"}), "spec.transforms should be a valid list"),
    (lambda value: value["spec"]["input"].update(mean=[0.5]), "mean and std must be 3 finite numbers"),
    (lambda value: value["spec"]["input"].update(std=[0.5, 0.0, 0.5]), "std above 0"),
    (lambda value: value["spec"]["input"].update(input_size=[1, 50_000, 50_000]), "no size of image input"),
    (lambda value: value["spec"]["input"].update(classes=list("abcdef")), "6 classes for 5 outputs"),
    (lambda value: value["spec"]["config"].update({"\ud800": 1}), "not Unicode"),
    (lambda value: value["spec"].update(transforms=[{"op": "melt"}]), "does not know: 'melt'"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(saved, change, words):
    path = changed(saved[0], change)
    with pytest.raises(FileRefused, match=words) as caught:
        load_model(path)
    assert caught.value.exit_code == 4 and str(path) in str(caught.value)


class Evil:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_hostile_files_are_refused(saved, tmp_path, capsys):
    path, model = saved
    hostile = tmp_path / "hostile.pt"
    torch.save({"format": "dlkit.model", "version": 1, "state_dict": {"x": Evil()}}, hostile)
    with pytest.raises(FileRefused, match="can run code"):
        load_model(hostile)
    hostile.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(FileRefused, match="can run code"):
        load_model(hostile)
    torch.save(model, hostile)
    with pytest.raises(FileRefused, match="pickled object.*dlkit convert"):
        load_model(hostile)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(hostile, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(FileRefused, match="not laid out"):
        load_model(hostile)
    assert "never be printed" not in capsys.readouterr().out


def test_truncated_and_flipped_bytes_are_refused_or_equal(saved, tmp_path):
    """Cut at many places, flip random bytes: refused with our own error, or the very same weights; never anything else."""
    path, _ = saved
    small = Arch("dlkit", "mlp", {"input_size": [4], "num_classes": 2, "hidden": [3]})
    save_model_file(path, ModelSpec(small, INFO), build_model(small).state_dict())
    whole, expected = path.read_bytes(), load_model(path).state_dict()
    generator = random.Random(0)
    damaged = [whole[: len(whole) * part // 24] for part in range(24)]
    for _ in range(150):
        position = generator.randrange(len(whole))
        damaged.append(
            whole[:position] + bytes([whole[position] ^ (1 << generator.randrange(8))]) + whole[position + 1 :]
        )
    num_refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            found = load_model(path).state_dict()
        except DlkitError:
            num_refused += 1
        else:
            assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert num_refused > 100


def test_nothing_half_written_when_the_disk_is_full(saved, monkeypatch):
    """The old file stays as it was, no temporary file is left, and the error says what happened."""
    path, model = saved
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DlkitError, match="No space left on device") as caught:
        save_model_file(path, ModelSpec(RESNET, INFO), model.state_dict())
    assert caught.value.exit_code == 6
    assert path.read_bytes() == before and [item.name for item in path.parent.iterdir()] == ["model.pt"]


def test_spec_round_trip(saved):
    spec = read_model_file(saved[0]).spec
    assert ModelSpec.from_dict(spec.to_dict()) == spec
