"""a.b=value and ~a.b on top of a config."""

# ruff: noqa: E501 - the lines that people get to see stand here whole

import pytest

BASE = """\
data:
  name: digits
  transforms:
    - RandomHorizontalFlip
    - {name: RandomCrop, size: 8, padding: 1}
model: small_cnn
optimizer: {name: sgd, lr: 0.1, momentum: 0.9, groups: [{match: 'fc.*', lr_mult: 2}]}
train: {epochs: 3, clip: {norm: 1.0}}
ema: {decay: 0.9}
"""


def test_values_are_set_wherever_they_stand(load):
    values = load(BASE, "train.epochs=7", "seed=3", "checkpoint.metric=val_loss", "train.early_stop.patience=2").values
    assert values["train"] == {"epochs": 7, "clip": {"norm": 1.0}, "early_stop": {"patience": 2}}
    assert values["seed"] == 3
    assert values["checkpoint"] == {"metric": "val_loss"}


def test_values_are_read_as_in_a_file(load):
    config = load(
        BASE, "optimizer.lr=1e-3", "optimizer.groups=[{match: [a*, 'b=c'], freeze: true}]", "name='010'"
    ).config
    assert config.optimizer.lr == 0.001
    assert config.optimizer.groups[0].match == ["a*", "b=c"]
    assert config.name == "010"


def test_items_of_lists_are_reached_by_their_number(load):
    values = load(BASE, "data.transforms.1.padding=2", "data.transforms.0.p=0.1", "optimizer.groups.0.lr_mult=5").values
    assert values["data"]["transforms"] == [
        {"name": "RandomHorizontalFlip", "p": 0.1},
        {"name": "RandomCrop", "size": 8, "padding": 2},
    ]
    assert values["optimizer"]["groups"][0] == {"match": "fc.*", "lr_mult": 5}
    assert load(BASE, "data.transforms.1=RandomRotation", "data.transforms.1.degrees=5").values["data"]["transforms"][
        1
    ] == {
        "name": "RandomRotation",
        "degrees": 5,
    }


def test_a_name_switches_a_component(load):
    for override in ("optimizer=adamw", "optimizer={name: adamw}", "optimizer.name=adamw"):
        optimizer = load(BASE, override).values["optimizer"]
        assert optimizer == {"name": "adamw", "lr": 0.1, "groups": [{"match": "fc.*", "lr_mult": 2}]}
    assert load(BASE, "optimizer=SGD").values["optimizer"]["momentum"] == 0.9
    assert load(BASE, "model=resnet18").values["model"] == "resnet18"


def test_options_belong_to_the_new_name_whatever_the_order(load):
    for overrides in (["optimizer=adamw", "optimizer.eps=1e-7"], ["optimizer.eps=1e-7", "optimizer=adamw"]):
        assert load(BASE, *overrides).values["optimizer"]["eps"] == 1e-7
    assert load(BASE, "model.width=4").values["model"] == {"name": "small_cnn", "width": 4}
    assert load(BASE, "schedule.name=step", "schedule.step_size=2").values["schedule"] == {
        "name": "step",
        "step_size": 2,
    }


def test_mappings_merge_as_in_a_file(load):
    assert load(BASE, "train={accumulate: 2}").values["train"] == {"epochs": 3, "clip": {"norm": 1.0}, "accumulate": 2}


def test_the_last_of_two_wins(load):
    assert load(BASE, "train.epochs=4", "train.epochs=5").config.train.epochs == 5
    assert load(BASE, "optimizer=adam", "optimizer=adamw").config.optimizer.name == "adamw"


def test_removing(load):
    assert load(BASE, "~ema").config.ema is None
    assert load(BASE, "ema=null").config.ema is None
    assert load(BASE, "ema=").config.ema is None
    assert load(BASE, "~train.clip").config.train.clip is None
    assert "momentum" not in load(BASE, "~optimizer.momentum").values["optimizer"]
    assert len(load(BASE, "~data.transforms.0").values["data"]["transforms"]) == 1
    assert load(BASE, "~train.clip.norm", "train.clip.value=0.5").config.train.clip.value == 0.5
    assert load(BASE, "~optimizer").config.optimizer.name == "adamw"


def test_what_is_at_its_default_may_be_removed(load):
    assert load(BASE, "~train.max_steps", "~schedule", "~checkpoint.metric").config.train.max_steps is None


WRONG = {
    "train.epocs=3": "override 'train.epocs=3'  train.epocs: unknown key. Did you mean 'epochs'?",
    "trian.epochs=3": "override 'trian.epochs=3'  trian: unknown key. Did you mean 'train'?",
    "optimizer.betas=[0.9, 0.99]": "override 'optimizer.betas=[0.9, 0.99]'  optimizer.betas: unknown key for SGD",
    "train.epochs=many": "override 'train.epochs=many'  train.epochs: expected an integer of at least 1, got 'many' (a string)",
    "optimizer=adamv": "override 'optimizer=adamv'  optimizer.name: no optimizer 'adamv'. Did you mean 'adam' or 'adamw'?",
    "epochs": "override 'epochs'  expected key=value with a dotted key",
    "=3": "override '=3'  expected key=value",
    "a..b=3": "override 'a..b=3'  expected key=value",
    "~": "override '~'  expected key=value",
    "~ema=3": "override '~ema=3'  expected key=value",
    "data.transforms.2.p=3": "override 'data.transforms.2.p=3'  data.transforms.2.p: data.transforms has 2 items, counted from 0",
    "data.transforms.x=3": "override 'data.transforms.x=3'  data.transforms.x: data.transforms is a list; its items are data.transforms.0, ",
    "data.batch_transforms.0.alpha=3": "override 'data.batch_transforms.0.alpha=3'  data.batch_transforms.0.alpha: data.batch_transforms is not in the config",
    "train.epochs.x=3": "override 'train.epochs.x=3'  train.epochs.x: train.epochs is 3, which has no keys below it",
    "~trian": "override '~trian'  trian: unknown key. Did you mean 'train'?",
    "~optimizer.momentun": "override '~optimizer.momentun'  optimizer.momentun: not in the config, so it cannot be removed. Did you mean 'momentum'?",
    "~data.transforms.5": "override '~data.transforms.5'  data.transforms.5: data.transforms has 2 items",
    "extends=x.yaml": "override 'extends=x.yaml'  extends: files are extended in a file",
    "train.lr": "override 'train.lr'  expected key=value with a dotted key, or ~key to remove one: optimizer.lr=...",
    "train.epochs": "override 'train.epochs'  expected key=value with a dotted key, or ~key to remove one: train.epochs=...",
    "data.train=true": "override 'data.train=true'  data.train: unknown key for digits; the training and the test samples",
    "name=*x": "override 'name=*x'  name: aliases are not used",
    "train={epochs: 3": "override 'train={epochs: 3'  train: this '{' is never closed",
    "train={epochs: 3, epochs: 4}": "override 'train={epochs: 3, epochs: 4}'  train.epochs: given twice",
}


@pytest.mark.parametrize("override", WRONG)
def test_wrong_overrides_fail_as_wrong_files_do(problems, override):
    found = problems(BASE, override)
    assert len(found) == 1
    assert found[0].startswith(WRONG[override])


def test_all_wrong_overrides_are_told_together_with_the_file(problems):
    found = problems(BASE + "seed: x\n", "train.epocs=3", "~trian", "a")
    assert len(found) == 4
