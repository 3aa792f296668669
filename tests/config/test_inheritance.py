"""extends, -c overlays, and paths that count from the file they stand in."""

from pathlib import Path

import pytest

from dlkit.config import load_config, load_data_option, load_mapping
from dlkit.errors import ConfigError

BASE = """\
data: {name: digits, batch_size: 32, transforms: [RandomHorizontalFlip]}
model: {name: small_cnn, width: 8}
optimizer: {name: sgd, lr: 0.1, momentum: 0.9, nesterov: true}
schedule: {name: step, step_size: 3, warmup: 5%}
train: {epochs: 3, clip: {norm: 1.0}}
ema: {decay: 0.9}
"""


@pytest.fixture
def based(write):
    """Values of a config that extends BASE."""
    write(BASE, "base.yaml")
    return lambda text: load_config(write(f"extends: base.yaml\n{text}")).values


def test_mappings_merge_and_lists_and_values_are_replaced(based):
    values = based("train: {epochs: 7}\ndata: {transforms: [{name: RandomRotation, degrees: 5}]}\n")
    assert values["train"] == {"epochs": 7, "clip": {"norm": 1.0}}
    assert values["data"] == {
        "name": "digits",
        "batch_size": 32,
        "transforms": [{"name": "RandomRotation", "degrees": 5}],
    }
    assert "extends" not in values


def test_a_component_under_a_new_name_drops_the_options_of_the_old_one_but_not_the_keys_of_its_section(based):
    for written in ("optimizer: {name: adamw, eps: 1e-7}", "optimizer: {name: AdamW, eps: 1e-7}"):
        name = "adamw" if "adamw" in written else "AdamW"
        assert based(written)["optimizer"] == {"name": name, "lr": 0.1, "eps": 1e-7}
    assert based("optimizer: adamw\n")["optimizer"] == {"name": "adamw", "lr": 0.1}
    assert based("data: fake\n")["data"] == {"name": "fake", "batch_size": 32, "transforms": ["RandomHorizontalFlip"]}
    assert based("schedule: cosine\n")["schedule"] == {"name": "cosine", "warmup": "5%"}


def test_a_component_under_another_spelling_of_its_name_keeps_its_options(based):
    values = based("optimizer: {name: SGD, momentum: 0.8}\nmodel: small_cnn\nschedule: StepLR\n")
    assert values["optimizer"] == {"name": "SGD", "lr": 0.1, "momentum": 0.8, "nesterov": True}
    assert values["model"] == {"name": "small_cnn", "width": 8}
    assert values["schedule"] == {"name": "StepLR", "step_size": 3, "warmup": "5%"}


def test_a_list_of_layers_goes_with_the_model_named_layers(write):
    write("data: digits\nmodel: {name: layers, layers: [{linear: auto}], num_classes: 10}\n", "base.yaml")
    values = load_config(write("extends: base.yaml\nmodel: mlp\n")).values
    assert values["model"] == {"name": "mlp", "num_classes": 10}


def test_options_go_with_the_default_name_when_the_base_gave_none(write):
    write("data: digits\nmodel: mlp\noptimizer: {lr: 0.1, betas: [0.9, 0.99]}\n", "base.yaml")
    assert load_config(write("extends: base.yaml\noptimizer: sgd\n")).values["optimizer"] == {"name": "sgd", "lr": 0.1}
    assert "betas" in load_config(write("extends: base.yaml\noptimizer: adamw\n")).values["optimizer"]


def test_a_bare_name_below_takes_options_from_above(write):
    write("data: digits\nmodel: mlp\n", "base.yaml")
    assert load_config(write("extends: base.yaml\nmodel: {hidden: [5]}\n")).values["model"] == {
        "name": "mlp",
        "hidden": [5],
    }


def test_null_takes_a_section_or_a_list_away(based):
    values = based("ema: null\nschedule: null\ntrain: {clip: null}\ndata: {transforms: null}\n")
    assert values["ema"] is None
    assert "schedule" not in values
    assert values["train"] == {"epochs": 3, "clip": None}
    assert "transforms" not in values["data"]


def test_several_files_and_files_of_files(write):
    write("data: digits\nmodel: mlp\nseed: 1\nname: one\n", "deep/one.yaml")
    write("extends: one.yaml\nseed: 2\ntrain: {epochs: 2}\n", "deep/two.yaml")
    write("train: {epochs: 3, accumulate: 3}\n", "three.yaml")
    values = load_config(write("extends: [deep/two.yaml, ./three.yaml]\ntrain: {accumulate: 4}\n")).values
    assert values == {
        "data": "digits",
        "model": "mlp",
        "seed": 2,
        "name": "one",
        "train": {"epochs": 3, "accumulate": 4},
    }


def test_overlays_come_on_top_in_order_and_overrides_last(write):
    path = write("data: digits\nmodel: mlp\nseed: 1\ntrain: {epochs: 1}\n")
    one = write("seed: 2\ntrain: {accumulate: 2}\noptimizer: {name: sgd, momentum: 0.5}\n", "one.yaml")
    two = write("seed: 3\noptimizer: adamw\n", "two.yaml")
    loaded = load_config(path, overlays=[one, two], overrides=["train.epochs=9"])
    assert loaded.values == {
        "data": "digits",
        "model": "mlp",
        "seed": 3,
        "train": {"epochs": 9, "accumulate": 2},
        "optimizer": {"name": "adamw"},
    }
    assert loaded.locations.source == "cfg.yaml"


def test_problems_stand_in_the_file_that_has_them(write):
    write("data: digits\nmodel: mlp\ntrain:\n  epochs: none\n", "deep/base.yaml")
    overlay = write("\nseed: x\n", "overlay.yaml")
    with pytest.raises(ConfigError) as caught:
        load_config(write("extends: deep/base.yaml\ntrian: {}\n"), overlays=[overlay])
    assert [str(problem).partition("  ")[0] for problem in caught.value.problems] == [
        "cfg.yaml:2:1",
        "deep/base.yaml:4:11",
        "overlay.yaml:2:7",
    ]


def test_files_that_cannot_be_read_are_told_with_the_problems_of_the_others(write):
    with pytest.raises(ConfigError) as caught:
        load_config(write("- a\n"), overlays=[Path("one.yaml"), Path("two.yaml")])
    assert [problem.source for problem in caught.value.problems] == ["cfg.yaml", "one.yaml", "two.yaml"]


def test_a_value_that_is_replaced_is_not_complained_about(write):
    write("data: digits\nmodel: mlp\ntrain: {epochs: none}\n", "base.yaml")
    assert load_config(write("extends: base.yaml\ntrain: {epochs: 3}\n")).config.train.epochs == 3


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("nothing.yaml", "cfg.yaml:1:10  extends: nothing.yaml: no such file"),
        ("[base.yaml, 3]", "cfg.yaml:1:22  extends: expected a file name or a list of them"),
        ("{a: b}", "cfg.yaml:1:10  extends: expected a file name or a list of them"),
        ("cfg.yaml", "cfg.yaml:1:10  extends: a circle: cfg.yaml -> cfg.yaml"),
        ("loop.yaml", "loop.yaml:1:10  extends: a circle: cfg.yaml -> loop.yaml -> cfg.yaml"),
        ("folder", "cfg.yaml:1:10  extends: folder: this is a folder"),
        ("empty.yaml", "empty.yaml:1:1  this file is empty"),
    ],
)
def test_files_that_cannot_be_extended(write, written, said):
    write("data: digits\nmodel: mlp\n", "base.yaml")
    write("extends: cfg.yaml\n", "loop.yaml")
    write("", "empty.yaml")
    Path("folder").mkdir()
    with pytest.raises(ConfigError) as caught:
        load_config(write(f"extends: {written}\ndata: digits\nmodel: mlp\n"))
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(said)


def test_files_that_extend_too_many_files(write):
    for number in range(40):
        write(f"extends: {number + 1}.yaml\n", f"{number}.yaml")
    write("seed: 1\n", "40.yaml")
    with pytest.raises(ConfigError, match="more than 32 files"):
        load_config(write("extends: 0.yaml\ndata: digits\nmodel: mlp\n"))


def test_a_file_that_many_extend_is_read_once_and_stays_cheap(write):
    write("data: digits\nmodel: mlp\n", "0.yaml")
    for number in range(1, 25):
        write(f"extends: [{number - 1}.yaml, {number - 1}.yaml]\n", f"{number}.yaml")
    assert load_config(Path("24.yaml")).config.model.name == "mlp"


def test_paths_with_a_dot_count_from_their_file(write, tmp_path):
    write("data: {name: imagefolder, path: ./pictures}\nmodel: ../nets.py:Net\n", "deep/base.yaml")
    overlay = write("model: {weights: ./start.pt}\n", "over/lay.yaml")
    path = write("extends: deep/base.yaml\nruntime: {out: ./runs}\nlog: {images: 3}\n", "mid/cfg.yaml")
    write("data: {name: imagefolder, path: ./pictures}\nmodel: ../nets.py:Net\n", "mid/deep/base.yaml")
    loaded = load_config(path, overlays=[overlay], overrides=["data.root=./here"])
    assert loaded.config.data.options["path"] == str(tmp_path / "mid/deep/pictures")
    assert loaded.config.data.root == str(tmp_path / "here")
    assert loaded.config.model.name == str(tmp_path / "mid/nets.py:Net")
    assert loaded.config.model.weights == str(tmp_path / "over/start.pt")
    assert loaded.config.runtime.out == str(tmp_path / "mid/runs")


def test_other_paths_stay_as_they_are(load):
    config = load("data: {name: csv, path: data/x.csv, target: ...}\nmodel: .hidden:Net\nruntime: {out: runs}\n").config
    assert (config.data.options["path"], config.runtime.out) == ("data/x.csv", "runs")
    assert (config.data.options["target"], config.model.name) == ("...", ".hidden:Net")


def test_a_mapping_from_python_extends_nothing(write, tmp_path):
    write(BASE, "base.yaml")
    with pytest.raises(ConfigError, match="extends: unknown key; files are extended at the top of a config file"):
        load_mapping({"extends": "base.yaml", "data": "digits", "model": "mlp"})
    values = load_mapping({"data": "digits", "model": "mlp", "runtime": {"out": "./runs"}}).values
    assert values["runtime"]["out"] == str(tmp_path / "runs")


def test_a_data_option_names_a_folder_or_a_file_that_needs_no_model(write, tmp_path):
    data = load_data_option("imagefolder:pictures").config.data
    assert (data.name, data.options) == ("imagefolder", {"path": str(tmp_path / "pictures")})
    path = write("data: {name: fake, num_samples: 7}\n", "data.yaml")
    assert load_data_option(str(path)).config.data.options == {"num_samples": 7}
    with pytest.raises(
        ConfigError, match=r"data.yaml:1:20  data.num_sample: unknown key for fake. Did you mean 'num_samples'"
    ):
        load_data_option(str(write("data: {name: fake, num_sample: 7}\n", "data.yaml")))
    with pytest.raises(ConfigError, match=r"nowhere.yaml  no such file"):
        load_data_option("nowhere.yaml")
