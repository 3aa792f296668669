"""What processes must have in common."""

from dataclasses import dataclass, field

import pytest

from dlkit.config import load_config, load_mapping
from dlkit.core.distributed import ALONE, check_same_program
from dlkit.errors import UsageError

CONFIG = {"data": "digits", "model": "small_cnn"}


@dataclass
class Pair:
    """This process, and another that says the same but for some values."""

    changes: dict[str, str] = field(default_factory=dict)
    is_alone: bool = False

    def gather_values(self, value):
        return [value, value | self.changes]


def test_the_same_program_and_one_process_are_fine():
    check_same_program(load_mapping(CONFIG), ALONE)
    check_same_program(load_mapping(CONFIG), Pair())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dlkit": "9.9"}, "rank 1 runs 9.9; install the same version"),
        ({"torch": "1.0"}, "runs torch .*, rank 1 runs 1.0"),
        ({"config": "seed: 1"}, "the config of rank 0 says"),
    ],
)
def test_what_differs_is_named(changes, words):
    with pytest.raises(UsageError, match=words):
        check_same_program(load_mapping(CONFIG), Pair(changes))


def test_folders_may_differ_between_machines(tmp_path):
    """The same code in another folder is the same config; the same name for another class is not."""
    said = []

    class Listener(Pair):
        def gather_values(self, value):
            said.append(value["config"])
            return [value]

    for folder, name in (("one", "Net"), ("two", "Net"), ("two", "Other")):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / "cfg.yaml"
        path.write_text(f"data: {{name: digits, root: {folder}}}\nmodel: './net.py:{name}'\n")
        (tmp_path / folder / "net.py").write_text("class Net: ...\nclass Other: ...\n")
        check_same_program(load_config(path), Listener())
    assert said[0] == said[1] != said[2]
