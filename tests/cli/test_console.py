"""What the terminal shows, where it is narrow."""

import re

import pytest


def lines_of(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


@pytest.mark.parametrize("columns", [10, 100])
def test_numbers_are_never_broken_in_two(dlkit, columns):
    counts = [line.split()[-1] for line in lines_of(dlkit("list").out)[1:-2]]
    words = " ".join(lines_of(dlkit("list", columns=columns).out)).split()
    assert len(counts) > 5 and all(count.isdecimal() and count in words for count in counts)


def test_text_is_broken_between_its_words(dlkit):
    whole, narrow = (lines_of(dlkit("list", "losses", columns=columns).out)[:-1] for columns in (None, 80))
    assert len(narrow) > len(whole) and max(map(len, narrow)) <= 80
    assert {word for line in narrow for word in line.split()} <= {word for line in whole for word in line.split()}
