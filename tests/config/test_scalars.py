"""Plain scalars mean what YAML 1.2 says, in files and in overrides alike."""

import pytest

SCALARS = [
    ("1", 1),
    ("-7", -7),
    ("+3", 3),
    ("0", 0),
    ("0o17", 15),
    ("0x1F", 31),
    ("1e-3", 0.001),
    ("5e-4", 0.0005),
    ("1E5", 100000.0),
    ("+1.5e+2", 150.0),
    (".5", 0.5),
    ("-.5", -0.5),
    ("1.", 1.0),
    ("0.10", 0.1),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("yes", "yes"),
    ("no", "no"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("12:30", "12:30"),
    ("1:30:00", "1:30:00"),
    ("010", "010"),
    ("-007", "-007"),
    ("01.5", "01.5"),
    ("2024-01-31", "2024-01-31"),
    ("1_000", "1_000"),
    ("0b11", "0b11"),
    ("1e", "1e"),
    ("inf", "inf"),
    ("nan", "nan"),
    ("1.2.3", "1.2.3"),
    ("5%", "5%"),
    ("tRue", "tRue"),
    ("=", "="),
    ("'1'", "1"),
    ('"no"', "no"),
    ("'~'", "~"),
]


@pytest.mark.parametrize(("written", "value"), SCALARS)
def test_scalars_of_a_file_and_of_an_override(load, written, value):
    from_file = load(f"data: digits\nmodel:\n  name: nets:Net\n  option: {written}\n").values["model"]["option"]
    from_override = load("data: digits\nmodel: nets:Net\n", f"model.option={written}").values["model"]["option"]
    assert (from_file, type(from_file)) == (value, type(value))
    assert (from_override, type(from_override)) == (value, type(value))


@pytest.mark.parametrize("written", [".inf", "-.Inf", "+.INF", ".nan", ".NaN", "1e999", "9" * 41, "9" * 5000])
def test_numbers_that_are_not_finite_or_absurd_are_refused(problems, written):
    found = problems(f"data: digits\nmodel:\n  name: nets:Net\n  option: {written}\n")
    assert len(found) == 1
    assert found[0].startswith("cfg.yaml:4:11  model.option: ")


def test_numbers_written_for_another_yaml_say_how_to_write_them(problems):
    found = problems(
        "data: {name: digits, batch_size: 1_000}\nmodel: mlp\ntrain: {epochs: 010, accumulate: '2'}\nseed: 1e3\n"
    )
    assert [line.split(".")[-1] for line in found] == [
        " Write 1000",
        " Write 10",
        " Write 2 without quotes",
        " Write 1000",
    ]
