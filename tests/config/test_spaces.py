import pytest

from dlkit.config import load_spaces
from dlkit.errors import ConfigError

CONFIG = "data: digits\nmodel: {name: small_cnn, width: 8}\noptimizer: {name: adamw, lr: 0.01}\n"


@pytest.fixture
def read(write_config):
    return lambda *texts: load_spaces(write_config(CONFIG), texts=texts)


@pytest.mark.parametrize(
    ("text", "values", "points"),
    [
        ("optimizer.lr=log:1e-4..1e-1", (1e-4, 1e-1), None),
        ("optimizer.weight_decay=0.0..0.1", (0.0, 0.1), None),
        ("data.val=0.1..0.3:0.1", (0.1, 0.3), (0.1, 0.2, 0.3)),
        ("train.epochs=2..8:3", (2, 8), (2, 5, 8)),
        ("model.width=16..18", (16, 18), (16, 17, 18)),
        ("model.width=16,32", (16, 32), (16, 32)),
        ("optimizer=sgd,adamw", ("sgd", "adamw"), ("sgd", "adamw")),
        ("ema=null,{decay: 0.9}", (None, {"decay": 0.9}), (None, {"decay": 0.9})),
        ("train.compile=true,false", (True, False), (True, False)),
    ],
)
def test_spaces_are_read(read, text, values, points):
    (space,) = read(text).spaces
    assert space.values == values and space.points == points
    assert all(type(value) is type(read_value) for value, read_value in zip(values, space.values))


def test_one_value_is_an_override(read):
    space = read("model.width=16,32", "train.epochs=3", "data.limit=100")
    assert space.fixed == ("train.epochs=3", "data.limit=100") and space.base.config.train.epochs == 3
    assert space.load({"model.width": 32}, "seed=5").config.model.options["width"] == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lrr=0.1,0.2", "optimizer.lrr: unknown key for AdamW. Did you mean 'lr'?"),
        ("train.epochs=0.5..2.5", "train.epochs: expected an integer of at least 1, got 0.5"),
        ("model.width=16,wide", "model.width: expected an integer, got 'wide' (a string)"),
        ("optimizer.lr=-1.0..0.1", "optimizer.lr: expected a number above 0 or 'auto', got -1.0"),
        ("optimizer.lr=0.1..0.1", "optimizer.lr: an empty range: 0.1 is not below 0.1"),
        ("optimizer.lr=log:0.0..0.1", "optimizer.lr: a logarithmic range begins above 0, not at 0"),
        ("optimizer.lr=log:0.1..1.0:0.1", "optimizer.lr: a logarithmic range has no step"),
        ("train.epochs=1..9:10", "train.epochs: expected a step above 0 and at most 8, got 10"),
        ("optimizer.lr=log:small..big", "optimizer.lr: expected a range such as 0.0..1.0, 16..64:16 or log:1e-4..1e-1"),
        ("model.width=16,32,16", "model.width: 16 stands twice in the list"),
        ("task=classification,regression", "task: this cannot be searched"),
        ("optimizer.momentum=0.0..0.9", "optimizer.momentum: unknown key for AdamW"),
    ],
)
def test_wrong_spaces_are_told_with_their_argument(read, text, message):
    with pytest.raises(ConfigError) as caught:
        read(text, "data.limit=0")
    told = [str(problem) for problem in caught.value.problems]
    assert told[0].startswith("override 'data.limit=0'  data.limit:")
    assert told[1].startswith(f"space '{text}'  {message}")
    assert all(line.startswith(f"space '{text}'") for line in told[1:])


def test_a_key_stands_once_and_something_is_searched(read):
    with pytest.raises(ConfigError, match="model.width: given twice; first in override 'model.width=4'"):
        read("model.width=4", "model.width=16,32")
    with pytest.raises(ConfigError, match="nothing to search"):
        read("model.width=4")
