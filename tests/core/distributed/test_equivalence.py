"""Several processes compute what one computes with a batch as large as theirs together, in float64 at 1e-12."""

import copy
from pathlib import Path

import pytest
import torch

NET = f"{Path(__file__).resolve().parent / 'net64.py'}:Net"
BASE = {
    # 909 training samples: with batches of 16 x 2 and windows of 3 the last window and the last batch are short
    "data": {"name": "fake", "num_samples": 1010, "shape": [1, 8, 8], "num_classes": 4, "batch_size": 16,
             "eval_batch_size": 20, "val": 0.1, "test": "none"},
    "model": {"name": NET},
    "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.05},
    "train": {"epochs": 2},
}  # fmt: skip
MAPS = {
    "data.name": NET.replace(":Net", ":Maps"),
    "model.name": NET.replace(":Net", ":MapNet"),
    "task": "segmentation",
    "data.cache": "memory",
    "loss": {"name": "cross_entropy", "ignore_index": 255},
}
CASES = {
    "plain": {},
    "accumulated": {"train.accumulate": 3},
    "clipped": {"train.accumulate": 3, "train.clip": {"norm": 0.01}, "ema": {"decay": 0.9}},
    "weighted": {"loss": {"name": "cross_entropy", "class_weights": [0.5, 1.0, 2.0, 4.0]}, "train.accumulate": 2},
    "labels": {
        "data.name": NET.replace(":Net", ":Labels"),
        "loss": {"name": "bce", "class_weights": [0.5, 1.0, 2.0, 4.0]},
        "train.accumulate": 3,
        "data.cache": "memory",
    },
    "maps": MAPS
    | {
        "loss.name": "sum",
        "loss.terms": {"cross_entropy": 1, "dice": 0.5},
        "loss.class_weights": [0.5, 1.0, 2.0, 4.0],
        "train.accumulate": 3,
    },
    "synced norm": {"model.norm": True, "train.sync_bn": True, "train.accumulate": 3},
}


def case(changes, batch_size, **more):
    config = copy.deepcopy(BASE)
    for key, value in ({"data.batch_size": batch_size} | changes | more).items():
        *parents, last = key.split(".")
        section = config
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return config


def assert_close(found, wanted, path=""):
    """Equal nests; tensors and numbers at 1e-12."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), path
        for key in wanted.keys() - {"fused"}:  # cut parameters are updated by other kernels
            assert_close(found[key], wanted[key], f"{path}.{key}")
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), path
        for index, (one, two) in enumerate(zip(found, wanted, strict=True)):
            assert_close(one, two, f"{path}.{index}")
    elif isinstance(wanted, torch.Tensor):
        assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-12), (path, (found - wanted).abs().max())
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12), path
    else:
        assert found == wanted, path


def test_two_processes_equal_one(act):
    ones = act([case(changes, 32) for changes in CASES.values()], 1)[0]
    for rank in act([case(changes, 16) for changes in CASES.values()], 2):
        for name, found, one in zip(CASES, rank, ones, strict=True):
            for key in ("state", "ema", "optimizer", "history", "steps", "samples", "status"):
                assert_close(found[key], one[key], f"{name}.{key}")
            # one exchange of gradients per update, whatever the number of micro-batches
            assert found["exchanges"] == found["steps"] > 10 and one["exchanges"] == 0
            if name == "maps":  # counts of pixels are whole numbers
                assert [row["val_miou"] for row in found["history"]] == [row["val_miou"] for row in one["history"]]
                assert found["scores"] | {"loss": 0} == one["scores"] | {"loss": 0}


def test_validation_on_two_processes_is_the_same_bits_as_on_one(act):
    """101 samples in batches of 20: six batches, the last of one sample; whole batches in turn, none read twice."""
    # the step size is so small that both stay at the same weights, so that every bit of the metrics can be compared
    frozen = {"optimizer.lr": 1e-300, "train.max_steps": 1}
    cases = [
        case(frozen, 16),
        case(frozen | {"model.norm": True}, 16),
        case(frozen | {"data.eval_batch_size": 101}, 16),
        case(frozen | MAPS, 16),
    ]
    ones = act(cases, 1)[0]
    for rank in act(cases, 2):
        for found, one in zip(rank[:1] + rank[2:], ones[:1] + ones[2:], strict=True):
            assert found["val"] == one["val"] and found["scores"] == one["scores"]
        assert rank[1]["val"]["accuracy"] * 101 == pytest.approx(round(rank[1]["val"]["accuracy"] * 101), abs=1e-9)


@pytest.mark.parametrize("num_samples", [37, 38, 41])
def test_a_last_batch_that_is_too_small_for_three_processes(act, num_samples):
    """36 = 3 x 12 and a rest of 1, 2 or 5: some process has no sample in it, and takes part without weight."""
    changes = {
        "data.num_samples": num_samples, "data.val": "none", "data.drop_last": False, "train.epochs": 1,
        "train.accumulate": 2, "model.norm": True, "train.sync_bn": True,
    }  # fmt: skip
    one = act([case(changes, 12)], 1)[0][0]
    for rank in act([case(changes, 4)], 3):
        assert_close(rank[0]["state"], one["state"])
        assert rank[0]["samples"] == num_samples


def test_weights_cut_over_two_processes_equal_one(act):
    """FSDP: the same numbers, and state dicts with whole tensors under the same names."""
    ones = act([case(changes, 32) for changes in CASES.values()], 1)[0]
    for rank in act([case(changes, 16) for changes in CASES.values()], 2, PARALLEL="fsdp"):
        for name, found, one in zip(CASES, rank, ones, strict=True):
            for key in ("state", "ema", "optimizer", "history", "steps", "samples"):
                assert_close(found[key], one[key], f"{name}.{key}")
            assert all(type(tensor) is torch.Tensor for tensor in found["state"].values())


def test_each_process_normalizes_by_its_own_batch_unless_synced(act):
    """Running statistics are the mean over processes, the same on all; they are not those of the one big batch."""
    changes = {"model.norm": True, "data.val": "none", "train.max_steps": 3}
    first, second = (rank[0]["state"] for rank in act([case(changes, 16)], 2))
    one = act([case(changes, 32)], 1)[0][0]["state"]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.allclose(first["body.1.running_var"], one["body.1.running_var"], rtol=1e-12)
    assert torch.allclose(first["body.1.running_mean"], one["body.1.running_mean"], rtol=0.1, atol=0.05)
