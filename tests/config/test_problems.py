"""What is said about wrong keys and values, and where."""

# ruff: noqa: E501 - the lines that people get to see stand here whole

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from dlkit.config import Normalization, load_config, load_mapping
from dlkit.errors import ConfigError
from dlkit.registry import is_current

SIX_MISTAKES = """\
data:
  name: digits
  batch_size: 128x
model: small_cn
optimizer:
  name: adamw
  weight_deacy: 0.01
epochs: 10
train:
  amp: bf6
scheduler: cosine
"""
SIX_LINES = [
    "cfg.yaml:3:15  data.batch_size: expected an integer of at least 1, got '128x' (a string)",
    "cfg.yaml:4:8  model: no model 'small_cn'. Did you mean 'small_cnn'? See `dlkit list models`; your own: package.module:attr",
    "cfg.yaml:7:3  optimizer.weight_deacy: unknown key for AdamW. Did you mean 'weight_decay'?",
    "cfg.yaml:8:1  epochs: unknown key. It belongs to train: `train.epochs`",
    "cfg.yaml:10:8  train.amp: expected 'auto', 'off', 'bf16' or 'fp16', got 'bf6' (a string). Did you mean 'bf16'?",
    "cfg.yaml:11:1  scheduler: unknown key. Did you mean 'schedule'?",
]
CLOSING = "6 problems; nothing was started. Full key list: dlkit config schema"
PROGRAM = """
import sys
from dlkit.config import load_config
from dlkit.errors import ConfigError
try:
    load_config("cfg.yaml")
except ConfigError as error:
    print(error.report())
    print([name for name in ("torch", "torchvision", "rich", "numpy") if name in sys.modules])
    sys.exit(error.exit_code)
"""
ROOT = Path(__file__).resolve().parents[2]


def test_six_mistakes_are_told_at_once(problems):
    assert problems(SIX_MISTAKES) == SIX_LINES


def test_six_mistakes_are_told_by_a_process_without_torch(write):
    write(SIX_MISTAKES)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False)
    assert run.stderr == ""
    assert run.stdout.splitlines() == [*SIX_LINES, CLOSING, "[]"]
    assert run.returncode == 2


def test_importing_the_package_costs_no_pydantic():
    program = "import sys, dlkit.config; print('pydantic' in sys.modules, 'yaml' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout == "False False\n"


GOOD = "data: {name: digits}\nmodel: {name: mlp}\n"
# (text, override that carries the mistake or none, the whole line)
WRONG_VALUES = {
    "train: {epochs: 0}": "3:17  train.epochs: expected an integer of at least 1, got 0",
    "train: {epochs: true}": "3:17  train.epochs: expected an integer of at least 1, got true",
    "train: {epochs: 1e1}": "3:17  train.epochs: expected an integer of at least 1, got 10.0. Write 10",
    "train: {epochs: }": "3:16  train.epochs: expected an integer of at least 1, got nothing (null)",
    "train: {epochs: [1]}": "3:17  train.epochs: expected an integer of at least 1, got a list of 1",
    "train: 10": "3:8  train: expected a mapping with keys such as epochs, max_steps, accumulate, clip, got 10",
    "eval: {tta: yes}": "3:13  eval.tta: expected true or false, got 'yes' (a string). Write true",
    "ema: {decay: 1}": "3:14  ema.decay: expected a number above 0 and below 1, got 1",
    "ema: false": "3:6  ema: expected null or a mapping with keys such as decay, warmup, every, got false. Write null for none",
    "ema: true": "3:6  ema: expected null or a mapping with keys such as decay, warmup, every, got true. Write {} for its defaults",
    "optimizer: {lr: 0}": "3:17  optimizer.lr: expected a number above 0 or 'auto', got 0",
    "optimizer: {lr: auot}": "3:17  optimizer.lr: expected a number above 0 or 'auto', got 'auot' (a string). Did you mean 'auto'?",
    "seed: -1": "3:7  seed: expected an integer of at least 0 and below 2**63, got -1",
    "name: 5": "3:7  name: expected a string of letters, digits, '.', '_' and '-' or 'auto', got 5. Put it in quotes: '5'",
    "name: a/b": "3:7  name: expected a string of letters, digits, '.', '_' and '-' or 'auto', got 'a/b' (a string)",
    "train: {amp: false}": "3:14  train.amp: expected 'auto', 'off', 'bf16' or 'fp16', got false. Did you mean 'off'?",
    "train: {clip: {}}": "3:15  train.clip: give exactly one of norm and value",
    "train: {clip: {norm: 1, value: 1}}": "3:15  train.clip: give exactly one of norm and value",
    "train: {max_time: soon}": "3:19  train.max_time: expected a duration such as 90s, 45m or 1h30m, got 'soon'",
    "schedule: {warmup: 5 percent}": "3:20  schedule.warmup: expected a share (5%), steps (500st) or epochs (2ep), got '5 percent'",
    "train: {gradient_checkpointing: {segments: 0}}": "3:44  train.gradient_checkpointing.segments: expected an integer of at least 1, got 0",
    "train: {gradient_checkpointing: [1]}": "3:34  train.gradient_checkpointing.0: expected a string, got 1. Put it in quotes: '1'",
    "optimizer: {groups: [{lr_mult: 2}]}": "3:22  optimizer.groups.0.match: missing; expected a string or a list, each a string",
    "optimizer: {groups: [{macht: x}]}": "3:23  optimizer.groups.0.macht: unknown key. Did you mean 'match'?",
    "optimizer: {groups: {match: x}}": "3:21  optimizer.groups: expected a list, each a mapping with keys such as match, lr_mult, weight_decay, freeze, got a mapping. Put it in a list: [...]",
    "optimizer: {name: 3}": "3:19  optimizer.name: expected a string, got 3. Put it in quotes: '3'",
    "loss: ''": "3:7  loss: expected a name or a mapping with 'name', got '' (a string)",
    "loss: 3": "3:7  loss: expected a name or a mapping with 'name', got 3",
}


@pytest.mark.parametrize("text", WRONG_VALUES)
def test_wrong_values_are_told_in_one_sentence_at_the_value(problems, text):
    assert problems(GOOD + text + "\n") == [f"cfg.yaml:{WRONG_VALUES[text]}"]


def in_data(text: str) -> str:
    return f"model: mlp\ndata:\n  name: digits\n  {text}\n"


WRONG_DATA = {
    "image_size: [8]": "4:15  data.image_size: expected an integer of at least 1, 'auto', a list of 2 items, each an integer of at least 1 or a mapping with keys such as from, to, got a list of 1",
    "image_size: [8, 0]": "4:19  data.image_size.1: expected an integer of at least 1, got 0",
    "val: 20": "4:8  data.val: expected a number above 0 and below 1, 'test' or 'none', got 20",
    "val: null": "4:8  data.val: expected a number above 0 and below 1, 'test' or 'none', got nothing (null). Did you mean 'none'?",
    "val: tset": "4:8  data.val: expected a number above 0 and below 1, 'test' or 'none', got 'tset' (a string). Did you mean 'test'?",
    "normalize: {mean: [0.5]}": "4:3  data.normalize.std: missing; expected a list, each a number above 0",
    "normalize: {mean: [0.5], std: [0]}": "4:34  data.normalize.std.0: expected a number above 0, got 0",
    "fitting: {resize: 3}": "4:13  data.fitting.resize: unknown key. Did you mean 'resize_size'?",
    "normalize: true": "4:14  data.normalize: expected 'auto', 'data', 'none' or a mapping with keys such as mean, std, got true",
    "transforms: RandomHorizontalFlip": "4:15  data.transforms: expected a list, each a name or a mapping with 'name', got 'RandomHorizontalFlip' (a string). Put it in a list: [...]",
    "transforms: [3]": "4:16  data.transforms.0: expected a name or a mapping with 'name', got 3",
    "transforms: [{size: 3}]": "4:16  data.transforms.0.name: missing; a component is picked by its name",
    "transforms: [{type: RandomCrop, size: 3}]": "4:16  data.transforms.0.name: missing; write `name` for 'type'",
}


@pytest.mark.parametrize("text", WRONG_DATA)
def test_wrong_values_of_data(problems, text):
    assert problems(in_data(text))[0] == f"cfg.yaml:{WRONG_DATA[text]}"


def test_missing_sections_and_names(problems):
    assert problems("data:\nmodel: mlp\n") == [
        "cfg.yaml:1:6  data: expected a name or a mapping with 'name', got nothing (null)"
    ]
    assert problems("seed: 1\n") == [
        "cfg.yaml:1:1  data: missing; every config needs data and model, for example `data: digits`",
        "cfg.yaml:1:1  model: missing; every config needs data and model, for example `model: small_cnn`",
    ]
    assert problems("data: digits\nmodel:\n  width: 3\n") == [
        "cfg.yaml:2:1  model.name: missing; a component is picked by its name"
    ]
    assert problems("data: digits\nmodel:\n  layers: [relu]\n") == [
        "cfg.yaml:2:1  model.name: missing; write `name: layers` beside the list"
    ]


# (key, section it is written in, what must be said)
CONFUSIONS = [
    ("scheduler", "", "Did you mean 'schedule'?"),
    ("lr_scheduler", "", "Did you mean 'schedule'?"),
    ("dataset", "", "Did you mean 'data'?"),
    ("criterion", "", "Did you mean 'loss'?"),
    ("trainer", "", "Did you mean 'train'?"),
    ("epochs", "", "It belongs to train: `train.epochs`"),
    ("max_epochs", "", "It belongs to train: `train.epochs`"),
    ("max_epochs", "train", "Did you mean 'epochs'?"),
    ("lr", "", "It belongs to optimizer: `optimizer.lr`"),
    ("lr", "train", "It belongs to optimizer: `optimizer.lr`"),
    ("learning_rate", "", "It belongs to optimizer: `optimizer.lr`"),
    ("learning_rate", "optimizer", "Did you mean 'lr'?"),
    ("weight_decay", "train", "It belongs to optimizer: `optimizer.weight_decay`"),
    ("batch_size", "", "It belongs to data: `data.batch_size`"),
    ("batch_size", "train", "It belongs to data: `data.batch_size`"),
    ("workers", "data", "Did you mean 'num_workers'?"),
    ("num_workers", "", "It belongs to data: `data.num_workers`"),
    ("device", "", "It belongs to runtime: `runtime.device`"),
    ("gpus", "", "It belongs to runtime: `runtime.device`"),
    ("early_stopping", "", "It belongs to train: `train.early_stop`"),
    ("grad_clip", "train", "Did you mean 'clip'?"),
    ("clip", "optimizer", "It belongs to train: `train.clip`"),
    ("seed", "train", "It belongs to the top of the config: `seed`"),
    ("epochs", "schedule", "It belongs to train: `train.epochs`"),
    ("label_smoothing", "train", "It belongs to loss: `loss.label_smoothing`"),
    ("mixed_precision", "train", "Did you mean 'amp'?"),
    ("type", "optimizer", "Did you mean 'name'?"),
    ("_target_", "model", "Did you mean 'name'?"),
    ("init_args", "model", "options stand beside the name"),
    ("val", "", "It belongs to data: `data.val` Or did you mean 'eval'?"),
    ("zzzzz", "eval", "known here: every, tta, test"),
]


@pytest.mark.parametrize(("key", "section", "said"), CONFUSIONS)
def test_keys_of_other_sections_and_other_frameworks(key, section, said):
    values = {"data": {"name": "digits"}, "model": {"name": "mlp"}}
    target = values.setdefault(section, {}) if section else values
    target[key] = 1
    with pytest.raises(ConfigError) as caught:
        load_mapping(values)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].message.startswith("unknown key")
    assert said in caught.value.problems[0].message


COMPONENTS = {
    "optimizer: adamv": "3:12  optimizer: no optimizer 'adamv'. Did you mean 'adam' or 'adamw'?",
    "optimizer: {name: sgd, betas: [0.9, 0.99]}": "3:24  optimizer.betas: unknown key for SGD; known here: momentum,",
    "optimizer: {name: sgd, momentum: lots}": "3:34  optimizer.momentum: expected a number, got 'lots' (a string)",
    "optimizer: {name: sgd, nesterov: yes}": "3:34  optimizer.nesterov: expected true or false, got 'yes' (a string). Write true",
    "optimizer: {name: sgd, momentum: '0.9'}": "3:34  optimizer.momentum: expected a number, got '0.9' (a string). Write 0.9 without quotes",
    "schedule: step": "3:1  schedule.step_size: missing; Step needs it (int)",
    "schedule: {name: step, step_size: 2.5}": "3:35  schedule.step_size: expected an integer, got 2.5",
    "schedule: cosin": "3:11  schedule: no schedule 'cosin'. Did you mean 'cosine'?",
    "schedule: {name: cosin}": "3:18  schedule.name: no schedule 'cosin'. Did you mean 'cosine'?",
    "loss: cross_entrpy": "3:7  loss: no loss 'cross_entrpy'. Did you mean 'cross_entropy'?",
    "loss: {name: cross_entropy, lable_smoothing: 0.1}": "3:29  loss.lable_smoothing: unknown key for CrossEntropyLoss. Did you mean 'label_smoothing'?",
    "loss: {lable_smoothing: 0.1}": "3:8  loss.lable_smoothing: unknown key for CrossEntropyLoss. Did you mean 'label_smoothing'?",
    "loss: {label_smoothing: true}": "3:25  loss.label_smoothing: expected a number, got true",
    "loss: adamw": "3:7  loss: 'adamw' is no loss; it is an optimizer and belongs to optimizer",
}


@pytest.mark.parametrize("text", COMPONENTS)
def test_names_and_options_of_components(problems, text):
    found = problems(GOOD + text + "\n")
    assert len(found) == 1
    assert found[0].startswith(f"cfg.yaml:{COMPONENTS[text]}")


TRANSFORMS = {
    "{name: RandomCrop, size: 8, paddding: 1}": "4:44  data.transforms.0.paddding: unknown key for RandomCrop. Did you mean 'padding'?",
    "RandomCorp": "4:16  data.transforms.0: no transform 'RandomCorp'. Did you mean 'RandomCrop'?",
    "{name: RandomCrop, size: 8, padding_mode: mirror}": "4:58  data.transforms.0.padding_mode: expected 'constant', 'edge', 'reflect' or 'symmetric', got 'mirror' (a string)",
    "RandomCrop": "4:16  data.transforms.0.size: missing; RandomCrop needs it",
    "mixup": "4:16  data.transforms.0: 'mixup' is no transform; it is a batch transform and belongs to data.batch_transforms",
}


@pytest.mark.parametrize("text", TRANSFORMS)
def test_names_and_options_of_transforms(problems, text):
    found = problems(in_data(f"transforms: [{text}]"))
    assert len(found) == 1
    assert found[0].startswith(f"cfg.yaml:{TRANSFORMS[text]}")


@pytest.mark.parametrize(
    "text",
    [
        "optimizer: {name: AdamW, betas: [0.9, 0.99], weight_decay: 1, foreach: null, fused: true}",
        "optimizer: {name: ADAM, eps: 1e-6}",
        "schedule: {name: steplr, step_size: 3}",
        "loss: {name: CrossEntropyLoss, label_smoothing: 0}",
        "schedule: {name: my.curves:Fancy, whatever: [1, {a: b}]}",
        "optimizer: {name: ./mine.py:Sophia, rho: x}",
        "train: {clip: {norm: 1}, compile: max-autotune, max_time: 90s, gradient_checkpointing: ['layer*']}",
        "schedule: {warmup: 2ep}",
        "runtime: {device: 'cuda:1'}",
    ],
)
def test_right_settings_pass(load, text):
    load(GOOD + text + "\n")


def test_torch_components_of_another_version_are_left_to_later(load, problems, monkeypatch):
    with monkeypatch.context() as another:
        another.setattr(metadata, "version", lambda package: "1.0")
        is_current.cache_clear()
        assert not is_current()
    load(GOOD + "optimizer: {name: adamw, option_of_tomorrow: 3}\n")
    assert len(problems(GOOD + "schedule: {name: step, step_size: 1, option_of_tomorrow: 3}\n")) == 1
    is_current.cache_clear()


TOGETHER = {
    "schedule: {name: plateau, mode: max}": "3:33  schedule.mode: less of val_loss is better; leave mode out",
    "schedule: {metric: val_accuracy}": "3:20  schedule.metric: cosine follows no metric; plateau does",
    "schedule: {name: plateau, metric: val_acuracy}": "3:35  schedule.metric: no column 'val_acuracy' in metrics.csv. Did you",
    "task: regression\nloss: cross_entropy": "4:7  loss.name: cross-entropy needs classes, but task is regression; use mse",
    "task: regression\nloss: {class_weights: balanced}": "4:23  loss.class_weights: there are no classes to weight",
    "loss: {name: mse, class_weights: balanced}": "3:34  loss.class_weights: weights per class are for cross_entropy, focal, bce and sum; the loss is mse",
    "train: {early_stop: {metric: val_acuracy}}": "3:30  train.early_stop.metric: no column 'val_acuracy' in metrics.csv. Did you mean 'val_accuracy'?",
    "train: {early_stop: {metric: accuracy}}": "3:30  train.early_stop.metric: no column 'accuracy' in metrics.csv. Did you mean 'val_accuracy'?",
    "checkpoint: {metric: val_los}": "3:22  checkpoint.metric: no column 'val_los' in metrics.csv. Did you mean 'val_loss'?",
    "checkpoint: {metric: val_ema_loss}": "3:22  checkpoint.metric: val_ema_loss is never measured: there is no section ema",
    "task: regression\ncheckpoint: {metric: val_accuracy}": "4:22  checkpoint.metric: val_accuracy is never measured: task is regression",
    "train: {compile: fast}": "3:18  train.compile: expected true, false, default, reduce-overhead,",
    "runtime: {device: gpu}": "3:19  runtime.device: expected auto, cpu, cuda, cuda:1 or mps, got 'gpu'. Did you mean 'cuda'?",
    "runtime: {device: 'cuda:x'}": "3:19  runtime.device: expected auto",
}


@pytest.mark.parametrize("text", TOGETHER)
def test_settings_that_do_not_go_together(problems, text):
    found = problems(GOOD + text + "\n")
    assert len(found) == 1
    assert found[0].startswith(f"cfg.yaml:{TOGETHER[text]}")


DATA_TOGETHER = {
    "{name: digits, val: none}": [
        "train: {early_stop: {}}",
        "train.early_stop.metric: val_loss is never measured: data.val is none",
    ],
    "{name: digits, val: 'none'}": [
        "schedule: {name: plateau, metric: val_accuracy}",
        "schedule.metric: val_accuracy is never measured: data.val is none",
    ],
    "{name: digits, val: 0.5, test: 0.5}": ["seed: 0", "data.test: val and test together hold out 1 of the samples"],
    "{name: digits, val: test, test: none}": [
        "seed: 0",
        "data.val: validates on the test split, but data.test is none",
    ],
    "{name: digits, num_workers: 0, persistent_workers: true}": [
        "seed: 0",
        "data.persistent_workers: there are no loader processes",
    ],
    "{name: digits, num_workers: 0, prefetch_factor: 2}": [
        "seed: 0",
        "data.prefetch_factor: there are no loader processes",
    ],
}


@pytest.mark.parametrize("data", DATA_TOGETHER)
def test_data_settings_that_do_not_go_together(problems, data):
    other, said = DATA_TOGETHER[data]
    found = problems(f"data: {data}\nmodel: mlp\n{other}\n")
    assert len(found) == 1
    assert f"  {said}" in found[0]


def test_the_model_named_layers_and_its_list(problems, load):
    assert "model.layers: missing; the model named layers" in problems("data: digits\nmodel: layers\n")[0]
    assert (
        "model.layers: a list of layers needs `name: layers`"
        in problems("data: digits\nmodel: {name: mlp, layers: [relu]}\n")[0]
    )
    load("data: digits\nmodel: {name: layers, layers: [{linear: auto}]}\n")


def test_validating_on_the_test_split_is_a_warning(load):
    loaded = load("data: {name: digits, val: test}\nmodel: mlp\n")
    assert [str(warning).split(":")[:3] for warning in loaded.warnings] == [["cfg.yaml", "1", "27  data.val"]]
    assert load(GOOD).warnings == ()


def test_settings_are_checked_together_even_beside_wrong_ones(problems):
    found = problems("data: digits\nmodel: mlp\nseed: x\ntrain: {amp: x, early_stop: {metric: val_acc}}\n")
    assert [line.split("  ")[1].split(":")[0] for line in found] == ["seed", "train.amp", "train.early_stop.metric"]


def test_problems_are_sorted_by_place_and_each_key_is_told_once(problems):
    found = problems("train: {epochs: x}\nmodel: mlp\ndata: {name: digits, num_workers: x, normalize: 3}\nlog: []\n")
    assert [line.partition("  ")[0] for line in found] == [
        "cfg.yaml:1:17",
        "cfg.yaml:3:35",
        "cfg.yaml:3:49",
        "cfg.yaml:4:6",
    ]


def test_a_loaded_config_points_at_its_keys_for_later_stages(load):
    loaded = load("data: digits\nmodel:\n  name: mlp\n  hidden: [3]\noptimizer: sgd\n")
    assert str(loaded.error(("model", "hidden"), "no", at="key")) == "cfg.yaml:4:3  model.hidden: no"
    assert str(loaded.error(("model", "hidden"), "no")) == "cfg.yaml:4:11  model.hidden: no"
    assert str(loaded.error(("optimizer", "lr"), "no")) == "cfg.yaml:5:12  optimizer.lr: no"
    assert str(loaded.error(("train", "epochs"), "no")) == "cfg.yaml:1:1  train.epochs: no"
    assert loaded.text is not None and loaded.text.startswith("data: digits")


def test_a_mapping_from_python_goes_through_the_same_checks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load_mapping(
        {"data": {"name": "imagefolder", "path": Path("pictures")}, "model": "mlp", "optimizer": {"betas": (0.9, 0.99)}}
    )
    assert loaded.values["data"]["path"] == "pictures"
    assert loaded.values["optimizer"]["betas"] == [0.9, 0.99]
    assert loaded.text is None
    with pytest.raises(ConfigError) as caught:
        load_mapping({"data": "digits", "model": "mlp", "train": {"epoch": 3}})
    assert str(caught.value) == "config  train.epoch: unknown key. Did you mean 'epochs'?"


def test_the_report_counts_and_is_cut(write):
    with pytest.raises(ConfigError) as caught:
        load_config(write(GOOD + "".join(f"k{index}: 1\n" for index in range(60))))
    lines = caught.value.report().splitlines()
    assert len(lines) == 52
    assert lines[-2:] == ["... and 10 more", "60 problems; nothing was started. Full key list: dlkit config schema"]


def test_transforms_that_training_refuses_are_refused_by_the_check():
    for name, words in {
        "ConvertImageDtype": "remove it",
        "ToDtype": "remove it",
    }.items():
        for key in ("transforms", "eval_transforms"):
            with pytest.raises(ConfigError, match=words) as caught:
                load_mapping({"data": {"name": "digits", key: [{"name": name, "mean": [0.5]}]}, "model": "mlp"})
            assert [problem.key for problem in caught.value.problems] == [f"data.{key}.0.name"]


NORMALIZE = "{name: Normalize, mean: [0.5], std: [0.25]}"


@pytest.mark.parametrize(
    "keys",
    [
        f"transforms: [ToTensor, {NORMALIZE}]",
        f"transforms: [RandomHorizontalFlip, {NORMALIZE}, ToTensor]\n  eval_transforms: [{NORMALIZE}]",
        f"eval_transforms: [{NORMALIZE.replace('N', 'n', 1)}]\n  normalize: auto",
        f"transforms: [{NORMALIZE.replace('}', ', inplace: true}')}]\n  normalize: {{mean: [0.5], std: [0.25]}}",
    ],
)
def test_normalize_as_the_last_transform_is_data_normalize(write, keys):
    loaded = load_config(write(f"model: mlp\ndata:\n  name: digits\n  {keys}\n"))
    section = loaded.config.data
    assert section.normalize == Normalization(mean=[0.5], std=[0.25]) and len(loaded.notes) == 1
    assert not [step for step in (*section.transforms, *section.eval_transforms) if "ormalize" in step.name]
    assert load_config(write(GOOD)).notes == ()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (f"transforms: [{NORMALIZE}, RandomErasing]", "4:16  data.transforms.0: belongs at the end"),
        (f"eval_transforms: [ToTensor, {NORMALIZE}, Resize: 3]", "4:31  data.eval_transforms.1: belongs at the end"),
        ("transforms: [Normalize]", "4:16  data.normalize.mean: missing; expected a list, each a number"),
        (
            "transforms: [{name: Normalize, mean: [0.5], std: [0]}]",
            "4:53  data.normalize.std.0: expected a number above 0",
        ),
        ("transforms: [{name: Normalize, mean: 0.5, std: [1]}]", "4:40  data.normalize.mean: expected a list"),
        (f"transforms: [{NORMALIZE}]\n  normalize: none", "4:16  data.normalize: data.normalize says something else"),
        (
            f"transforms: [{NORMALIZE}]\n  eval_transforms: [{NORMALIZE.replace('0.5', '0.4')}]",
            "5:21  data.normalize: data.transforms says something else",
        ),
    ],
)
def test_a_normalize_that_cannot_be_moved_is_refused_at_its_place(problems, keys, expected):
    found = problems(f"model: mlp\ndata:\n  name: digits\n  {keys}\n")
    assert any(problem.startswith(f"cfg.yaml:{expected}") for problem in found), found


def test_transforms_that_happen_anyway_pass_but_take_no_options():
    passed = ["ToTensor", "toimage", {"name": "PILToTensor"}]
    assert load_mapping({"data": {"name": "digits", "transforms": passed}, "model": "mlp"}).config.data.transforms
    with pytest.raises(ConfigError, match="what happens anyway") as caught:
        load_mapping({"data": {"name": "digits", "transforms": [{"name": "ToTensor", "scale": True}]}, "model": "mlp"})
    assert [problem.key for problem in caught.value.problems] == ["data.transforms.0.scale"]
