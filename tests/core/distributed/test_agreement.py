"""What processes must have in common."""

from dataclasses import dataclass, field

import pytest

from dlkit.config import load_mapping
from dlkit.core.distributed.agreement import check_same_program
from dlkit.core.distributed.world import ALONE
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
