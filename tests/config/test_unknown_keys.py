"""A typo in any key of the schema is answered with the key that was meant."""

import random
import re
import string

import pytest

from dlkit.config import Component, load_mapping, sections
from dlkit.errors import ConfigError
from dlkit.suggestions import closest

PER_KEY = 12
REQUIRED = {
    ("data",): {"name": "digits"},
    ("data", "image_size"): {"from": 8, "to": 16},
    ("data", "normalize"): {"mean": [0.5], "std": [0.5]},
    ("data", "fitting"): {"resize_size": 9},
    ("data", "fold"): {"number": 1, "of": 5},
    ("model",): {"name": "mlp"},
    ("optimizer", "groups"): {"match": "fc.*"},
    ("train", "clip"): {"norm": 1.0},
    ("train", "distill"): {"teacher": "model.pt"},
    ("train", "gradient_checkpointing"): {"segments": 2},
}


def one_edit(word: str, draw: random.Random) -> str:
    at = draw.randrange(len(word))
    edit = draw.choice(["insert", "delete", "substitute", "swap"])
    letter = draw.choice(string.ascii_lowercase + "_")
    if edit == "insert":
        return word[:at] + letter + word[at:]
    if edit == "delete":
        return word[:at] + word[at + 1 :]
    if edit == "substitute":
        return word[:at] + letter + word[at + 1 :]
    return word[:at] + word[at : at + 2][::-1] + word[at + 2 :]


def typos() -> list[tuple[tuple[str, ...], str, str]]:
    """(section, key, mistyped key), no two alike and none that is a key of the section itself."""
    draw = random.Random(0)
    found = []
    for path, section in sections().items():
        for key in section.model_fields:
            if key == "name" and issubclass(section, Component):
                continue
            wrong = {one_edit(key, draw) for _ in range(PER_KEY)}
            found += [(path, key, typo) for typo in sorted(wrong) if typo and typo not in section.model_fields]
    return found


def config_with(path: tuple[str, ...], key: str) -> dict[str, object]:
    """The smallest config that is right but for one key of the section at `path`."""
    values: dict[str, object] = {"data": {"name": "digits"}, "model": {"name": "mlp"}}
    if not path:
        return {**values, key: "x"}
    below: object = {**REQUIRED.get(path, {}), key: "x"}
    below = [below] if path == ("optimizer", "groups") else below
    for part in reversed(path[1:]):
        below = {**REQUIRED.get(path[:-1], {}), part: below}
    return {**values, path[0]: below}


def test_at_least_95_percent_of_one_edit_typos_get_the_right_suggestion():
    cases = typos()
    assert len(cases) > 500
    missed = []
    for path, key, typo in cases:
        with pytest.raises(ConfigError) as caught:
            load_mapping(config_with(path, typo))
        assert [problem.key for problem in caught.value.problems] == [
            ".".join((*path, *(("0",) if path == ("optimizer", "groups") else ()), typo))
        ]
        suggested = re.search(r"Did you mean '([^']+)'", caught.value.problems[0].message)
        if not suggested or suggested[1] != key:
            missed.append((path, key, typo, caught.value.problems[0].message))
    assert len(missed) <= 0.05 * len(cases), missed


@pytest.mark.parametrize("word", ["cosine", "weight_decay", "RandomHorizontalFlip", "resnet18"])
def test_typos_in_names_are_found_among_others(word):
    draw = random.Random(1)
    others = ["step", "linear", "momentum", "RandomVerticalFlip", "resnet101", "lr", word]
    typos_of_word = [one_edit(word, draw) for _ in range(100)]
    assert all(closest(typo, others)[0] == word for typo in typos_of_word)


def test_names_that_look_like_nothing_get_no_suggestion():
    assert closest("zzzzzz", ["cosine", "step"]) == []
    assert closest("q" * 100_000, ["cosine", "step"]) == []
