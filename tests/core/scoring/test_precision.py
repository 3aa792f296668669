from pathlib import Path

import pytest
import torch

from dlkit.core.scoring import pick_precision
from dlkit.errors import UsageError

CPU = torch.device("cpu")


def test_off_and_auto_on_a_cpu_are_float32():
    assert pick_precision("off", CPU).name == pick_precision("auto", CPU).name == "fp32"


def test_bf16_on_a_cpu_with_and_without_it(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "flags\t: fma avx512_bf16\n")
    picked = pick_precision("bf16", CPU)
    assert picked.name == "bf16" and picked.note is None and not picked.scaler.is_enabled()
    with picked.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "flags\t: fma avx2\n")
    picked = pick_precision("bf16", CPU)
    assert picked.name == "fp32" and "no native bf16" in picked.note
    with picked.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_fp16_needs_a_gpu():
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        pick_precision("fp16", CPU)
