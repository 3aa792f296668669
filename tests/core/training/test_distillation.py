"""Distillation: the same as loops by hand in float64, teachers of other data, resume, and what is refused."""

import copy
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dlkit
from dlkit.config import Distill, Model, load_mapping
from dlkit.core.data import DataInfo, ImageFit, fit_image
from dlkit.core.modelfile import ModelSpec, read_model_file, save_model_file
from dlkit.core.models import build_model, plan_arch
from dlkit.core.scoring import WeightedLoss
from dlkit.core.training import (
    Distillation,
    Resume,
    Teacher,
    as_teacher,
    build_fine_tuning,
    fine_tune,
    open_teacher,
)
from dlkit.errors import ConfigError, FileRefused, UsageError
from dlkit.events import Note, ignore

CPU = torch.device("cpu")


def teacher_of(outputs=3):
    torch.manual_seed(9)
    network = nn.Sequential(nn.Linear(7, 20), nn.Dropout(0.5), nn.Tanh(), nn.Linear(20, outputs)).double()
    return as_teacher(network, CPU)


def distance(task, outputs, wanted, temperature):
    """The mean over a batch, by torch's own functions."""
    if task == "regression":
        return F.mse_loss(outputs, wanted)
    own, taught = outputs / temperature, wanted / temperature
    if task == "classification":
        divergence = F.kl_div(own.log_softmax(1), taught.softmax(1), reduction="batchmean")
        return temperature**2 * divergence
    cross = F.binary_cross_entropy_with_logits(own, taught.sigmoid())
    entropy = F.binary_cross_entropy_with_logits(taught, taught.sigmoid())
    return temperature**2 * (cross - entropy)


def reference(model, teacher, inputs, targets, *, function, task, window, temperature, weight, epochs=2):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for start in range(0, len(inputs), window):
            part = slice(start, start + window)
            optimizer.zero_grad()
            outputs = model(inputs[part])
            with torch.no_grad():
                wanted = teacher.network(inputs[part])
            loss = (1 - weight) * function(outputs, targets[part])
            (loss + weight * distance(task, outputs, wanted, temperature)).backward()
            optimizer.step()
    return model


def largest_difference(first, second):
    return max((a - b).abs().max().item() for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("task", ["classification", "mixed", "multilabel", "regression"])
def test_training_equals_a_loop_by_hand(lab, float64_data, small_mlp, task, accumulate):
    inputs, targets = float64_data
    function = {"multilabel": F.binary_cross_entropy_with_logits, "regression": F.mse_loss}.get(task, F.cross_entropy)
    if task != "classification":
        targets = torch.rand(len(inputs), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    if task == "mixed":  # as after mixup
        targets, task = targets / targets.sum(1, keepdim=True), "classification"
    teacher, model = teacher_of(), small_mlp()
    learner = lab.learner(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        accumulate=accumulate,
        scoring=lab.scoring(function, task=task),
        distillation=Distillation(teacher, task, 3.0, 0.6),
    )
    lab.fit(learner, lab.split(inputs, targets, 10), epochs=2)
    wanted = reference(
        small_mlp(), teacher, inputs, targets, function=function, task=task, window=10 * accumulate, temperature=3.0, weight=0.6
    )  # fmt: skip
    assert largest_difference(model, wanted) < 1e-12
    assert all(parameter.grad is None for parameter in teacher.network.parameters())


@pytest.mark.parametrize("ignored", [None, 2])
def test_samples_weigh_as_in_the_loss(lab, float64_data, small_mlp, ignored):
    inputs, targets = float64_data
    class_weights = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    loss = nn.CrossEntropyLoss(class_weights, ignore_index=-100 if ignored is None else ignored)
    teacher, model = teacher_of(), small_mlp()
    scoring = replace(lab.scoring(), loss=WeightedLoss(loss, "", class_weights=class_weights, ignore_index=ignored))
    learner = lab.learner(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        accumulate=20,
        scoring=scoring,
        distillation=Distillation(teacher, "classification", 2.0, 0.7),
    )
    lab.fit(learner, lab.split(inputs, targets, 10))

    wanted = small_mlp()
    outputs, taught = wanted(inputs) / 2, teacher.answer(inputs) / 2
    each = F.kl_div(outputs.log_softmax(1), taught.softmax(1), reduction="none").sum(1) * 4
    weights = class_weights[targets] * (targets != ignored if ignored is not None else 1)
    mixed = 0.3 * loss(wanted(inputs), targets) + 0.7 * (each * weights).sum() / weights.sum()
    mixed.backward()
    torch.optim.SGD(wanted.parameters(), lr=0.1).step()
    assert largest_difference(model, wanted) < 1e-12


def test_a_batch_of_ignored_samples_has_no_distance():
    loss = WeightedLoss(nn.CrossEntropyLoss(), "", ignore_index=2)
    values = torch.ones(4, requires_grad=True)
    mean = loss.mean_of(values, torch.full((4,), 2))
    mean.backward()
    assert mean == 0 and not values.grad.any()


# teachers in files

CLASSES = ("ant", "bee", "cow")
INFO = DataInfo("classification", "image", (1, 8, 8), 3, CLASSES, (0.3,), (0.2,))
NUMBERS = DataInfo(
    "regression", "features", (4,), 2, None, (0.0,) * 4, (1.0,) * 4, None, ("a", "b"), (1.0, 5.0), (2.0, 3.0)
)


def save_teacher(path, info, name="small_cnn", **options):
    torch.manual_seed(3)
    arch = plan_arch(Model(name=name, **options), input_size=info.input_size, num_outputs=info.num_outputs)
    network = build_model(arch, input_size=info.input_size)
    save_model_file(path, ModelSpec(arch, info), network.state_dict())
    return network.eval()


def section(path, **options):
    return Distill(teacher=str(path), **options)


def test_a_teacher_of_the_same_data_sees_the_same_numbers(tmp_path):
    network = save_teacher(tmp_path / "t.pt", INFO)
    teacher = open_teacher(section(tmp_path / "t.pt"), INFO, CPU)
    images = torch.randn(5, 1, 8, 8)
    assert teacher.inputs is None and teacher.columns is None and teacher.outputs is None
    assert torch.equal(teacher.answer(images), network(images))
    assert not teacher.network.training and not teacher.answer(images).requires_grad


@pytest.mark.parametrize("statistics", [(None, None), ((0.5,), (0.1,))])
def test_inputs_are_normalized_as_the_teacher_is_used_to(tmp_path, statistics):
    known = replace(INFO, mean=statistics[0], std=statistics[1], input_size=(1, 12, 12))
    network = save_teacher(tmp_path / "t.pt", known)
    raw = torch.rand(5, 1, 8, 8)
    mean, std = (values[0] if values else default for values, default in zip(statistics, (0.0, 1.0), strict=True))
    wanted = network(fit_image((raw - mean) / std, (12, 12)))
    answer = open_teacher(section(tmp_path / "t.pt"), INFO, CPU).answer((raw - 0.3) / 0.2)
    torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["center", "squash"])
def test_images_are_brought_to_the_teachers_size_in_its_way_and_nothing_is_cut_off(tmp_path, mode):
    fit = ImageFit((20, 20), "bicubic", mode)
    network = save_teacher(tmp_path / "t.pt", replace(INFO, input_size=(1, 16, 16), fit=fit))
    images = torch.randn(5, 1, 8, 12)
    wanted = fit_image(images, (16, 16), ImageFit((16, 16), "bicubic", mode))
    assert torch.equal(open_teacher(section(tmp_path / "t.pt"), INFO, CPU).answer(images), network(wanted))


def test_classes_are_found_by_name(tmp_path):
    known = replace(INFO, classes=("cow", "dog", "ant", "bee"), num_outputs=4)
    network = save_teacher(tmp_path / "t.pt", known)
    images = torch.randn(5, 1, 8, 8)
    answer = open_teacher(section(tmp_path / "t.pt"), INFO, CPU).answer(images)
    assert torch.equal(answer, network(images)[:, [2, 3, 0]])


def test_targets_are_found_by_name_and_brought_to_the_same_units(tmp_path):
    known = replace(NUMBERS, targets=("b", "a"), target_mean=(4.0, 0.5), target_std=(1.5, 0.25))
    network = save_teacher(tmp_path / "t.pt", known, "mlp", hidden=[5])
    inputs = torch.randn(6, 4)
    answer = open_teacher(section(tmp_path / "t.pt"), NUMBERS, CPU).answer(inputs)
    own_units = network(inputs) * torch.tensor([1.5, 0.25]) + torch.tensor([4.0, 0.5])
    wanted = (own_units[:, [1, 0]] - torch.tensor([1.0, 5.0])) / torch.tensor([2.0, 3.0])
    torch.testing.assert_close(answer, wanted)


REFUSED = {
    "task": (replace(INFO, task="regression", classes=None), "was trained for regression, this run is classification"),
    "kind": (replace(NUMBERS, task="classification", target_mean=None, target_std=None, targets=None), "takes features input"),
    "channels": (replace(INFO, input_size=(3, 8, 8), mean=None, std=None), "takes 3 channels, these data have 1"),
    "classes": (replace(INFO, classes=("ant", "bee", "dog")), "does not know class 'cow'; it knows ant, bee, dog"),
    "outputs": (replace(INFO, classes=None, num_outputs=4), "has 4 outputs, this run has 3"),
}  # fmt: skip


@pytest.mark.parametrize(("known", "words"), REFUSED.values(), ids=REFUSED)
def test_teachers_that_do_not_fit_are_refused(tmp_path, known, words):
    name, options = ("small_cnn", {"width": 4}) if known.kind == "image" else ("mlp", {"hidden": [5]})
    save_teacher(tmp_path / "t.pt", known, name, **options)
    with pytest.raises(UsageError, match=words):
        open_teacher(section(tmp_path / "t.pt"), INFO, CPU)


# whole runs


@pytest.fixture
def taught(tmp_path):
    """A config whose teacher lies in a file."""
    data = {"name": "fake", "num_samples": 60, "shape": [1, 8, 8], "num_classes": 3, "batch_size": 8, "test": "none"}
    common = {"data": data, "log": {"tensorboard": False}, "runtime": {"threads": 1, "device": "cpu"}}
    model = {"name": "small_cnn", "width": 4}
    dlkit.train({**common, "model": model, "train": {"epochs": 1}}, out=tmp_path / "t")
    shutil.move(tmp_path / "t" / "model.pt", tmp_path / "teacher.pt")
    distill = {"teacher": str(tmp_path / "teacher.pt")}
    return {**common, "model": {"name": "mlp", "hidden": [8]}, "train": {"epochs": 2, "distill": distill}}


def test_resume_is_exact_and_knows_its_teacher(taught, straight_and_resumed, tmp_path, same):
    data = taught["data"] | {"batch_transforms": ["mixup"]}
    config = taught | {"data": data, "checkpoint": {"every_steps": 3, "keep": 9}}
    copied = shutil.copy(tmp_path / "teacher.pt", tmp_path / "copied.pt")  # it is known by its contents
    later = config | {"train": config["train"] | {"distill": {"teacher": str(copied)}}}
    straight, resumed = straight_and_resumed(config, 3, later=later)
    assert all(same(straight[key], resumed[key]) for key in ("state_dict", "optimizer"))
    assert straight["teacher"] == resumed["teacher"] is not None

    other = tmp_path / "run" / "model.pt"
    config["train"]["distill"] = {"teacher": str(other)}
    with pytest.raises(UsageError, match="another teacher than the one that taught until the checkpoint"):
        dlkit.train(config, resume=Resume(tmp_path / "run"))
    config["train"]["distill"] = None
    with pytest.raises(UsageError, match="train.distill"):
        dlkit.train(config, resume=Resume(tmp_path / "run"))


def test_a_teacher_of_ones_own_class_is_named_again(taught, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef net(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, num_classes))\n"
    )
    name = f"{tmp_path / 'net.py'}:net"
    common = {key: value for key, value in taught.items() if key not in ("model", "train")}
    dlkit.train({**common, "model": name, "train": {"epochs": 1}}, out=tmp_path / "own")
    taught["train"]["distill"] = {"teacher": str(tmp_path / "own" / "model.pt")}
    with pytest.raises(ConfigError, match="train.distill.*name it again, beside teacher: model: "):
        dlkit.train(taught, out=tmp_path / "run")
    taught["train"]["distill"]["model"] = name
    assert dlkit.train(taught, out=tmp_path / "run").status == "finished"


def test_bad_teachers_are_told_with_their_place(taught, tmp_path):
    tries = [
        ({"temperature": 0}, ConfigError, "temperature: expected a number above 0"),
        ({"weight": 1.5}, ConfigError, "weight: expected a number"),
        ({"wieght": 0.5}, ConfigError, "Did you mean 'weight'"),
        ({"teacher": str(tmp_path / "none.pt")}, FileRefused, "no such file"),
        ({"teacher": str(tmp_path / "t" / "checkpoints" / "last.pt")}, FileRefused, "a training checkpoint"),
    ]
    for change, error, words in tries:
        config = copy.deepcopy(taught)
        config["train"]["distill"] |= change
        with pytest.raises(error, match=words):
            dlkit.train(config, out=tmp_path / "run")
    del taught["train"]["distill"]["teacher"]
    with pytest.raises(ConfigError, match="teacher: missing"):
        dlkit.train(taught, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_int8_teacher_is_refused(taught, tmp_path):
    teacher = read_model_file(tmp_path / "teacher.pt")
    spec = replace(teacher.spec, transforms=({"op": "quantize"},))
    save_model_file(tmp_path / "int8.pt", spec, teacher.state_dict)
    taught["train"]["distill"]["teacher"] = str(tmp_path / "int8.pt")
    with pytest.raises(ConfigError, match="int8 network; the float network that it was made from teaches better"):
        dlkit.train(taught, out=tmp_path / "run")


def test_fine_tuning_is_taught_by_the_network_from_before():
    """One step of fine-tuning on one batch against the gradient by hand."""
    loaded = load_mapping(
        {
            "data": {"name": "digits", "limit": 64, "batch_size": 64, "shuffle": False, "val": "none"},
            "model": "mlp",
            "optimizer": {"name": "sgd", "lr": 0.1},
            "train": {"distill": {"teacher": "gone.pt"}},
        }
    )
    info = DataInfo("classification", "image", (1, 8, 8), 10, tuple("0123456789"), (0.3,), (0.4,))
    torch.manual_seed(1)
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2))
    by_hand = copy.deepcopy(student)
    events = []
    tuning = build_fine_tuning(loaded, student, info, epochs=1, lr=0.1, device=CPU, teacher=teacher, emit=events.append)
    batch = tuning.data.train.first_batch()
    fine_tune(tuning, emit=ignore)
    outputs = by_hand(batch.inputs)
    distill = F.kl_div((outputs / 4).log_softmax(1), (teacher(batch.inputs) / 4).softmax(1), reduction="batchmean")
    (0.3 * F.cross_entropy(outputs, batch.targets) + 0.7 * 16 * distill).backward()
    torch.optim.SGD(by_hand.parameters(), lr=0.1).step()
    assert largest_difference(student, by_hand) < 1e-6
    assert any(isinstance(event, Note) and "the network from before teaches: 70%" in event.text for event in events)
    tuning = build_fine_tuning(loaded, student, info, epochs=1, lr=0.1, device=CPU, emit=events.append)
    assert tuning.learner.distillation is None and "left out here; --distill" in events[-1].text


def test_a_teacher_stays_as_it_is():
    teacher = teacher_of()
    assert isinstance(teacher, Teacher) and not teacher.network.training
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
