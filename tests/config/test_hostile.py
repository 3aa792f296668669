"""Odd and hostile texts end in ConfigError, soon, and in nothing else."""

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlkit.config import load_config, load_mapping
from dlkit.errors import ConfigError

GOOD = "data: digits\nmodel: mlp\n"
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
# name: (text, part of a message that must be there)
TEXTS = {
    "empty": ("", "this file is empty"),
    "only a comment": ("# nothing\n", "this file is empty"),
    "only dashes": ("---\n", "this file is empty"),
    "null": ("null\n", "this file is empty"),
    "a list": ("- a\n- b\n", "expected sections"),
    "a word": ("hello\n", "expected sections"),
    "a number": ("3\n", "expected sections"),
    "two documents": (GOOD + "---\n" + GOOD, "a second document"),
    "alias": (GOOD + "train: {epochs: &n 3, accumulate: *n}\n", "aliases are not used"),
    "anchor alone": (GOOD + "train: &t {epochs: 3}\n", "anchors are not used"),
    "undefined alias": (GOOD + "name: *nothing\n", "aliases are not used"),
    "glob that looks like an alias": (
        GOOD + "optimizer: {groups: [{match: *.bias}]}\n",
        "quotes around a string that begins with '*'",
    ),
    "alias bomb": (BOMB + GOOD, "aliases are not used"),
    "recursive alias": ("&a [*a]\n", "anchors are not used"),
    "merge key": (GOOD + "train: {<<: {epochs: 3}}\n", "merge keys"),
    "python tag": (GOOD + "name: !!python/object/apply:os.system ['true']\n", "tags (!name)"),
    "own tag": (GOOD + "name: !env HOME\n", "tags (!name)"),
    "standard tag": (GOOD + "seed: !!int '3'\n", "tags (!name)"),
    "unknown tag handle": (GOOD + "seed: !x!int 3\n", "tags (!name)"),
    "repeated key": (GOOD + "seed: 1\nseed: 2\n", "given twice; first in line 3"),
    "repeated key below": (GOOD + "train: {epochs: 1, epochs: 2}\n", "given twice; first in line 3"),
    "number as key": (GOOD + "1: x\n", "a key must be a string, got 1"),
    "truth as key": (GOOD + "true: x\n", "a key must be a string, got true"),
    "null as key": (GOOD + "~: x\n", "a key must be a string, got ~"),
    "empty key": (GOOD + "'': x\n", "a key must be a string, got nothing"),
    "list as key": (GOOD + "[a, b]: x\n", "a key must be a string, got a list"),
    "mapping as key": (GOOD + "{a: b}: x\n", "a key must be a string, got a mapping"),
    "complex key": (GOOD + "? - a\n  - b\n: x\n", "a key must be a string, got a list"),
    "deep brackets": (GOOD + "model: " + "[" * 20_000, "nested deeper than 32 levels"),
    "deep braces": ("{a: " * 20_000, "nested deeper than 32 levels"),
    "deep dashes": (GOOD + "name: \n" + "- " * 5_000 + "x\n", "nested deeper than 32 levels"),
    "deep keys": ("? " * 2_000 + "x\n", "nested deeper than 32 levels"),
    "many values": (GOOD + "name: [" + "1," * 20_000 + "]\n", "more than 10000 values"),
    "many unknown keys": (GOOD + "".join(f"key_{i}: 1\n" for i in range(4_900)), "and 4800 more unknown keys"),
    "large": (GOOD + "#" * 2_000_000, "more than 512 KiB"),
    "large with words": (GOOD + "name: " + "x " * 250_000, "name: expected"),
    "blank lines": ("\n" * 500_000, "this file is empty"),
    "long key": (GOOD + f"{'k' * 900}: 1\n", "unknown key"),
    "tab": (GOOD + "train:\n\tepochs: 3\n", "a tab is used"),
    "unclosed quote": (GOOD + "name: 'abc\n", "this quote is never closed"),
    "unclosed double quote": (GOOD + 'name: "abc\n', "this quote is never closed"),
    "unclosed bracket": (GOOD + "data: [a, b\n", "this '[' is never closed"),
    "unclosed brace": (GOOD + "train: {epochs: 3\n", "this '{' is never closed"),
    "colon without space": (GOOD + "train:\n  epochs:3\n  accumulate: 2\n", "':' followed by a space is missing"),
    "two colons": (GOOD + "name: a: b\n", "a second ': '"),
    "too deep a line": (GOOD + "train:\n  epochs: 3\n   accumulate: 2\n", "indented deeper than the line above"),
    "too shallow a line": (GOOD + "train:\n    epochs: 3\n  accumulate: 2\n", "not indented like its neighbours"),
    "at sign": (GOOD + "name: @home\n", "cannot begin with '@'"),
    "backtick": (GOOD + "name: `x`\n", "cannot begin with '`'"),
    "percent": (GOOD + "name: %x\n", "cannot begin with '%'"),
    "bad escape": (GOOD + 'name: "C:\\data"\n', "unknown escape"),
    "short escape": (GOOD + 'name: "\\x1"\n', "hexadecimal digits"),
    "impossible escape": (GOOD + 'name: "\\U00110000"\n', "impossible number"),
    "surrogate": (GOOD + 'name: "\\ud800"\n', "U+D800 is not allowed"),
    "nul escape": (GOOD + 'name: "a\\0b"\n', "U+0000 is not allowed"),
    "control character": (GOOD + "name: a\x07b\n", "U+0007 is not allowed"),
    "terminal escape": (GOOD + '"\\e[2J": 1\n', "unknown key"),
    "yaml 2": ("%YAML 2.0\n---\n" + GOOD, "%YAML"),
    "huge yaml version": ("%YAML 1." + "9" * 5_000 + "\n---\n" + GOOD, "impossible number"),
    "list item beside a key": (GOOD + "data: - a\n", "a list item"),
    "text behind a string": (GOOD + 'name: "a" b\n', "not indented like its neighbours"),
    "closing bracket": (GOOD + "]\n", "cfg.yaml:3:1"),
    "infinity": (GOOD + "optimizer: {lr: .inf}\n", "must be finite"),
}


MOST_SECONDS = 2  # half of that is the most on a busy machine; what grows faster than the text takes minutes


def check_quickly(path: Path, expected: str) -> ConfigError:
    seconds = []
    while not seconds or (
        min(seconds) >= MOST_SECONDS and len(seconds) < 3
    ):  # the least: other work on the machine costs CPU time, too
        start = time.process_time()
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        seconds.append(time.process_time() - start)
    assert min(seconds) < MOST_SECONDS
    text = caught.value.report()
    assert expected in text
    assert all(character.isprintable() for character in text.replace("\n", ""))
    assert max(map(len, text.splitlines())) < 1000
    return caught.value


@pytest.mark.parametrize("name", TEXTS)
def test_odd_texts_are_config_errors(write, name):
    text, expected = TEXTS[name]
    error = check_quickly(write(text), expected)
    assert error.exit_code == 2
    assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)


def test_a_problem_of_syntax_stands_at_its_place(problems):
    assert problems(GOOD + "train:\n  epochs: 3\n  name: 'abc\n")[0].startswith("cfg.yaml:5:9  this quote")
    assert problems(GOOD + "train: {epochs: 3\n")[0].startswith("cfg.yaml:3:8  this '{'")
    assert problems(GOOD + "train:\n\tepochs: 3\n")[0].startswith("cfg.yaml:4:1  a tab")
    assert problems(GOOD + "train:\n  epochs 3\n  accumulate: 2\n")[0].startswith("cfg.yaml:4:3  expected 'key: value'")


def test_all_problems_of_reading_and_of_checking_come_together(problems):
    found = problems("data: digits\nmodel: mlp\ntrain:\n  epochs: &n 0\n  epochs: 3\n  acumulate: *n\n<<: {}\n")
    assert [line.partition("  ")[0].removeprefix("cfg.yaml:") for line in found] == ["4:11", "5:3", "6:14", "7:1"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xff\xfea\x00", "cfg.yaml:1:1  this file is not UTF-8 text"),
        (b"data: digits\nname: \xe9t\xe9\n", "cfg.yaml:2:7  this file is not UTF-8 text"),
        (b"\x80\x04\x95\x10", "not UTF-8"),
        (b"PK\x03\x04" + bytes(100), "is not allowed"),
    ],
)
def test_files_that_are_no_text(write, data, expected):
    path = write("")
    path.write_bytes(data)
    check_quickly(path, expected)


def test_a_byte_order_mark_is_no_mistake(write):
    path = write("")
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_config(path).config.model.name == "mlp"


def test_files_that_cannot_be_read(write, tmp_path):
    write(GOOD, "digits.yaml")
    check_quickly(
        Path("digit.yaml"), "digit.yaml  no such file. Did you mean 'digits.yaml'?\n1 problem; nothing was started."
    )
    check_quickly(tmp_path, "this is a folder")
    check_quickly(Path("digits.yaml/x.yaml"), "cannot be read: Not a directory")
    check_quickly(Path("x" * 300), "cannot be read: File name too long")
    Path("loop.yaml").symlink_to("loop.yaml")
    check_quickly(Path("loop.yaml"), "cannot be read: Too many levels of symbolic links")
    check_quickly(Path("/dev/zero"), "more than 512 KiB")


YAML_LIKE = st.text(st.sampled_from(list("abz019 .:-#\n\t[]{},'\"&*!|>%@?<=~\\/\x85\u2028é\U0001f600")), max_size=120)


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(max_size=200), YAML_LIKE, YAML_LIKE.map(lambda text: GOOD + "name: " + text)))
def test_any_text_loads_or_is_a_config_error(tmp_path, text):
    path = tmp_path / "cfg.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_config(path)
    except ConfigError as error:
        error.report().encode("utf-8")


JSON_LIKE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.sampled_from(["name", "lr", "transforms", "groups", "clip"]), st.text(max_size=5), st.integers()
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)
SECTIONS = ["name", "seed", "data", "model", "loss", "optimizer", "schedule", "train", "ema", "extends", "eval"]


@settings(max_examples=300, deadline=5000)
@given(values=st.one_of(JSON_LIKE, st.dictionaries(st.sampled_from(SECTIONS), JSON_LIKE, max_size=5)))
def test_any_value_from_python_loads_or_is_a_config_error(values):
    try:
        load_mapping(values)
    except ConfigError as error:
        error.report().encode("utf-8", "backslashreplace")


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    overrides=st.lists(
        st.one_of(
            st.text(max_size=20),
            YAML_LIKE,
            st.sampled_from(["data", "train.clip", "data.transforms.0", "~model"]).flatmap(
                lambda key: YAML_LIKE.map(lambda value: f"{key}={value}")
            ),
        ),
        max_size=3,
    )
)
def test_any_override_works_or_is_a_config_error(tmp_path, overrides):
    path = tmp_path / "cfg.yaml"
    path.write_text(GOOD)
    try:
        load_config(path, overrides=overrides)
    except ConfigError as error:
        error.report().encode("utf-8")


def test_values_from_python_that_no_file_could_hold():
    itself: dict[str, object] = {"data": "digits", "model": "mlp"}
    itself["train"] = itself
    with pytest.raises(ConfigError, match="nested deeper than 32 levels"):
        load_mapping(itself)
    with pytest.raises(ConfigError, match="model: expected a plain value, got type"):
        load_mapping({"data": "digits", "model": dict})
    with pytest.raises(ConfigError, match="a key must be a string, got 3"):
        load_mapping({"data": "digits", "model": "mlp", 3: 4})
    with pytest.raises(ConfigError, match="expected a mapping of sections, got list"):
        load_mapping(["data"])
