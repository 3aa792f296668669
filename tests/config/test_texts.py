"""Texts that we write ourselves: the starter file, dumped configs, the reference page."""

import re
import runpy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlkit.config import (
    Config,
    dump_config,
    dump_values,
    load_config,
    load_mapping,
    sections,
    starter_text,
)
from dlkit.registry import entries, kinds

ROOT = Path(__file__).resolve().parents[2]
RICH = {
    "name": "010",
    "seed": 7,
    "data": {
        "name": "csv",
        "path": "no",
        "target": "1e-3",
        "val": 0.25,
        "image_size": [8, 8],
        "normalize": {"mean": [0.5], "std": [1e-5]},
        "transforms": [
            {
                "name": "pkg:Crop",
                "odd": "~",
                "text": "a: b # c",
                "many": ["yes", "12:30", "2024-01-31", "", " x", "null"],
            }
        ],
    },
    "model": {"name": "layers", "layers": [{"conv": {"out": 8}}, "relu", [1, 2.5, True, None]]},
    "loss": {"name": "cross_entropy", "class_weights": [1.0, 2.0], "label_smoothing": 0.1},
    "optimizer": {"name": "adamw", "lr": 1e-05, "groups": [{"match": ["*.bias", "&x"], "freeze": True}]},
    "schedule": {"name": "step", "step_size": 3, "warmup": "5%"},
    "train": {"clip": {"value": 0.5}, "early_stop": {"metric": "val_loss"}, "max_time": "1h30m"},
    "ema": {"decay": 0.99},
}


def test_the_starter_file_loads_and_shows_every_section_and_key(write):
    text = starter_text()
    loaded = load_config(write(text))
    assert loaded.warnings == ()
    assert loaded.config.train.epochs == 10
    for path, section in sections().items():
        if len(path) > 1:
            continue
        indent = "  " if path else ""
        for key in section.model_fields:
            assert re.search(rf"^{indent}(# )?{key}:", text, re.MULTILINE), (path, key)


def test_the_starter_file_loads_with_every_line_switched_on(write):
    text = re.sub(r"^( *)# (\w+:)", r"\1\2", starter_text(), flags=re.MULTILINE)
    text = re.sub(r"^extends:.*\n", "", text, flags=re.MULTILINE)
    config = load_config(write(text), overrides=["data.persistent_workers=auto"]).config
    assert config.ema is not None
    assert config.train.clip is not None
    assert set(Config.model_fields) <= set(re.findall(r"^(\w+):", text, re.MULTILINE))


@pytest.mark.parametrize("values", [{"data": "digits", "model": "mlp"}, RICH], ids=["small", "rich"])
def test_a_dumped_config_reads_back_to_the_same(write, values):
    config = load_mapping(values).config
    text = dump_config(config)
    again = load_config(write(text, "resolved.yaml")).config
    assert again == config
    assert dump_config(again) == text


def test_a_dumped_config_holds_every_key():
    dumped = dump_config(load_mapping({"data": "digits", "model": "mlp", "ema": {}}).config)
    for path, section in sections().items():
        if len(path) == 1:
            block = re.search(rf"^{path[0]}:\n((?:  .*\n)+)", dumped, re.MULTILINE)
            assert block is not None
            assert all(f"  {key}:" in block[1] for key in section.model_fields)


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
        st.sampled_from(
            ["1e-3", "010", "0x1F", "yes", "~", "null", "", "-", "a: b", "12:30", ".5", "*x", "!y", "%z", "? q", "- r"]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=8), inner, max_size=4
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=st.dictionaries(st.sampled_from(["a", "b", "yes", "1", "~"]), PLAIN, min_size=1, max_size=3))
def test_any_plain_values_survive_dumping_and_reading(write, options):
    values = {"data": "digits", "model": {"name": "nets:Net", **options}}
    assert load_config(write(dump_values(values))).values == values


def test_the_reference_page_names_every_key_and_every_component():
    script = runpy.run_path(str(ROOT / "scripts" / "generate_docs"))
    page = script["config_page"]()
    for path, section in sections().items():
        title = "Top level" if not path else f"`{'.'.join(path)}`"
        part = page.split(f"\n## {title}\n", 1)[1].split("\n## ")[0]
        assert all(f"| `{key}` |" in part for key in section.model_fields)
    assert all(f"`{name}`" in script["names_page"]() for kind in kinds() for name in entries(kind))
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (4, 5) for row in rows)


def test_checking_the_docs_tells_what_is_out_of_date(tmp_path, monkeypatch, capsys):
    script = runpy.run_path(str(ROOT / "scripts" / "generate_docs"))
    main = script["main"]
    monkeypatch.setitem(main.__globals__, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["generate_docs", "--check"])
    assert main() == 1
    assert "docs/config.md" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["generate_docs"])
    assert main() == 0
    monkeypatch.setattr("sys.argv", ["generate_docs", "--check"])
    assert main() == 0
