"""`dlkit prune` from the command line: what it writes, what it shows, and what it refuses without writing anything."""

import gzip
import json
import resource
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import dlkit as dlkit_package
from dlkit.core.modelfile import read_model_file, save_model_file

QUICK = ("--seconds", "0.01")


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory):
    """A small_cnn that was trained on the digits for a moment."""
    out = tmp_path_factory.mktemp("prune") / "run"
    values = {
        "data": {"name": "digits", "batch_size": 64},
        "model": {"name": "small_cnn", "width": 8},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "schedule": {"name": "onecycle", "pct_start": 0.2},
        "train": {"epochs": 4},
        "log": {"tensorboard": False},
        "runtime": {"threads": 1},
    }
    dlkit_package.train(values, out=out)
    return out / "model.pt"


@pytest.fixture
def prune(dlkit, digits_model, tmp_path):
    """`prune("--amount", "50%")` writes to p.pt in an empty folder."""

    def run(*arguments, model=digits_model):
        return dlkit("prune", model, *arguments, "-o", tmp_path / "p.pt")

    return run


def zeros(path):
    """Zeros and entries of the weights with more than one dimension."""
    weights = [tensor for tensor in read_model_file(path).state_dict.values() if tensor.ndim > 1]
    return sum(int((weight == 0).sum()) for weight in weights), sum(weight.numel() for weight in weights)


def test_masks_as_a_file_that_everything_reads(prune, dlkit, digits_model, tmp_path):
    outcome = prune("--amount", "80%", "--scope", "global", *QUICK, "--json")
    assert outcome.code == 0, outcome.err
    facts, path = json.loads(outcome.out), tmp_path / "p.pt"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["p.pt", "p.report.json"]
    assert json.loads((tmp_path / "p.report.json").read_text()) == facts
    assert facts["schema"] == "dlkit.prune/1" and facts["kind"] == "result"
    zero, total = zeros(path)
    assert zero == round(0.8 * total) == sum(layer["num_zero"] for layer in facts["layers"])
    before, after = torch.load(digits_model, weights_only=True), torch.load(path, weights_only=True)
    assert list(before["state_dict"]) == list(read_model_file(path).state_dict) and after["spec"]["transforms"] == []
    sizes = facts["after"]["costs"]["sizes"]
    assert sizes["bytes"] == path.stat().st_size
    assert sizes["gzip_bytes"] == pytest.approx(len(gzip.compress(path.read_bytes())), rel=0.02)
    assert sizes["gzip_bytes"] < 0.6 * facts["before"]["costs"]["sizes"]["gzip_bytes"]
    judged = json.loads(dlkit("eval", path, "--json").out)["metrics"]
    assert judged["accuracy"] == facts["after"]["scores"]["metrics"]["accuracy"]
    assert {row["batch"] for row in facts["speeds"]["rows"]} == {1, 16}
    assert after["spec"]["provenance"]["test"]["accuracy"] == judged["accuracy"]
    assert after["spec"]["provenance"]["prune"]["before"]["test"] == before["spec"]["provenance"]["test"]
    assert "weights masked by l1, 80%, across all layers" in dlkit("inspect", path).out


def test_the_screen_says_what_masks_do_not_change(prune):
    outcome = prune("--amount", "50%", *QUICK)
    assert outcome.code == 0, outcome.err
    for words in ("weights masked by l1, 50% of each layer", "fc.weight", "sparsity", "the file stores the others and one bit",
                  "latency is the same", "batch norm", "latency, batch 16", "file, gzip"):  # fmt: skip
        assert words in outcome.out, words
    assert "--shrink removes" in prune("--amount", "50%", "--structured", *QUICK, "--force").out


def test_whole_slices_by_norm(prune, tmp_path):
    outcome = prune("--amount", "50%", "--structured", "--n", "inf", "--dim", "0", "--no-latency", "--json")
    assert outcome.code == 0, outcome.err
    layers = {layer["name"]: layer for layer in json.loads(outcome.out)["layers"]}
    assert all(layer["num_zero_channels"] * 2 == layer["shape"][0] for layer in layers.values())
    assert "fc.weight" not in layers, "classes are no channels"
    told = prune("--amount", "50%", "--structured", "--no-latency", "--force").err
    assert "left alone, as its channels are the network's outputs: fc.weight" in told


def test_a_count_instead_of_a_share(prune):
    layers = json.loads(prune("--count", "3", "--no-latency", "--json").out)["layers"]
    assert [layer["num_zero"] for layer in layers] == [3] * len(layers)
    everywhere = prune("--count", "3", "--scope", "global", "--no-latency", "--json", "--force")
    assert sum(layer["num_zero"] for layer in json.loads(everywhere.out)["layers"]) == 3


def test_iterations_with_training_reach_the_share(prune, tmp_path):
    outcome = prune(
        "--amount", "90%", "--scope", "global", "--iterations", "3", "--finetune", "1", "--lr", "0.01", "--no-latency",
        "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    zero, total = zeros(tmp_path / "p.pt")
    assert zero == round(0.9 * total)
    facts = json.loads(outcome.out)
    assert facts["after"]["scores"]["metrics"]["accuracy"] > 0.8
    alone = json.loads(prune("--amount", "90%", "--scope", "global", "--no-latency", "--json", "--force").out)
    assert facts["after"]["scores"]["metrics"]["loss"] < alone["after"]["scores"]["metrics"]["loss"]


def test_rewinding_to_a_checkpoint_and_to_the_beginning(prune, digits_model):
    for place in ("init", digits_model.parent / "checkpoints" / "last.pt"):
        outcome = prune("--amount", "50%", "--finetune", "1", "--rewind", place, "--no-latency", "--json", "--force")
        assert outcome.code == 0, outcome.err
        assert json.loads(outcome.out)["request"]["rewind"] == str(place)


def test_the_same_seed_gives_the_same_file(prune, tmp_path):
    states = []
    for seed in ("1", "1", "2"):
        assert prune("--amount", "50%", "--method", "random", "--seed", seed, "--no-latency", "--force").code == 0
        states.append(read_model_file(tmp_path / "p.pt").state_dict)
    same = [all(torch.equal(states[0][name], other[name]) for name in states[0]) for other in states[1:]]
    assert same == [True, False]


def test_the_plan_writes_nothing(prune, tmp_path):
    outcome = prune("--amount", "50%", "--plan")
    assert outcome.code == 0 and "Nothing was written." in outcome.out and not list(tmp_path.iterdir())
    facts = json.loads(prune("--amount", "50%", "--plan", "--structured", "--json").out)
    assert facts["kind"] == "plan" and facts["layers"][-1]["note"] == "makes the network's outputs"


def test_the_scan_ranks_layers_and_draws_them(dlkit, digits_model, tmp_path):
    picture = tmp_path / "scan.svg"
    before = digits_model.read_bytes()
    outcome = dlkit("prune", digits_model, "--scan", "-o", picture, "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert picture.read_text().startswith("<?xml") and [file.name for file in tmp_path.iterdir()] == ["scan.svg"]
    assert {part["name"] for part in facts["parts"]} >= {"features.0.conv.weight", "fc.weight"}
    assert all(part["losses"][-1] > facts["loss"] for part in facts["parts"])
    assert digits_model.read_bytes() == before
    assert "nothing pruned" in dlkit("prune", digits_model, "--scan", "-o", tmp_path / "again.png").out


REFUSED = {
    "no amount": ([], 2, "--amount"),
    "amount 0": (["--amount", "0%"], 2, "nothing"),
    "amount 0.0": (["--amount", "0.0"], 2, "nothing"),
    "all": (["--amount", "100%"], 2, "everything"),
    "all as a share": (["--amount", "1.0"], 2, "everything"),
    "a bare integer": (["--amount", "50"], 2, "--count 50"),
    "the bare integer 1": (["--amount", "1"], 2, "--count 1"),
    "words": (["--amount", "half"], 2, "not a number"),
    "both amounts": (["--amount", "50%", "--count", "3"], 2, "either"),
    "count 0": (["--count", "0"], 2, "at least 1"),
    "count too large": (["--count", "100000"], 2, "has only"),
    "a pattern for nothing": (["--amount", "50%", "--skip", "layer9.*"], 2, "matches no layer"),
    "everything skipped": (["--amount", "50%", "--skip", "*"], 2, "nothing is left to prune"),
    "too little": (["--amount", "0.000001%"], 2, "rounds to nothing"),
    "norm without channels": (["--amount", "50%", "--n", "2"], 2, "--structured"),
    "two norms": (["--amount", "50%", "--structured", "--n", "1", "--method", "l2"], 2, "--n 1"),
    "norm 0": (["--amount", "50%", "--structured", "--n", "0"], 2, "--n 0"),
    "a dimension that is not there": (["--amount", "50%", "--structured", "--dim", "3"], 2, "--dim 3"),
    "a method of groups": (["--amount", "50%", "--structured", "--method", "bn"], 2, "--shrink"),
    "an impossible target": (["--target", "macs=1%", "--round-to", "1"], 2, "smallest reachable"),
    "a target that is met": (["--target", "params=5M", "--round-to", "1"], 2, "already"),
    "a target of nothing": (["--target", "macs=0%"], 2, "--target"),
    "a target of all": (["--target", "macs=100%"], 2, "--target"),
    "a target without a unit": (["--target", "latency=5"], 2, "ms"),
    "an unknown target": (["--target", "flops=50%"], 2, "macs=50%"),
    "a target and an amount": (["--target", "macs=50%", "--amount", "50%"], 2, "--target finds the amount"),
    "shrinking nothing": (["--amount", "1%", "--shrink"], 2, "--round-to"),
    "a pattern for no group": (["--amount", "50%", "--shrink", "--skip", "nowhere"], 2, "matches no layer"),
    "a norm for shrinking": (["--amount", "50%", "--shrink", "--n", "2"], 2, "--n is for masks"),
    "a dimension for shrinking": (["--amount", "50%", "--shrink", "--dim", "1"], 2, "--dim is for masks"),
    "a count of channels too large": (["--count", "16", "--shrink"], 2, "take fewer"),
    "only the classes": (["--amount", "50%", "--shrink", "--skip", "features.*"], 2, "nothing to shrink"),
    "rounding masks": (["--amount", "50%", "--structured", "--round-to", "8"], 2, "--shrink"),
    "a floor above the amount": (["--amount", "60%", "--scope", "global", "--min-keep", "50%"], 2, "--min-keep"),
    "a floor of everything": (["--amount", "60%", "--min-keep", "100%"], 2, "--min-keep"),
    "rewinding without training": (["--amount", "50%", "--rewind", "init"], 2, "--finetune"),
    "a rate without training": (["--amount", "50%", "--lr", "0.1"], 2, "--finetune"),
    "no epochs": (["--amount", "50%", "--finetune", "0"], 2, "--finetune 0: must be greater than 0"),
    "endless epochs": (
        ["--amount", "50%", "--finetune", "inf"],
        2,
        "--finetune inf: must be greater than 0 and finite",
    ),
    "a negative rate": (["--amount", "50%", "--finetune", "1", "--lr", "-1"], 2, "--lr -1: must be greater than 0"),
    "a floor above everything": (["--amount", "50%", "--shrink", "--min-keep", "110%"], 2, "a share as 10% or 0.1"),
    "a floor as a bare integer": (["--amount", "50%", "--shrink", "--min-keep", "8"], 2, "a share as 10% or 0.1"),
    "an amount for scanning": (["--scan", "--amount", "50%"], 2, "leave --amount"),
    "a checkpoint that is not there": (
        ["--amount", "50%", "--finetune", "1", "--rewind", "none.pt"],
        4,
        "no such file",
    ),
    "looking twice": (["--plan", "--scan"], 2, "one of them"),
    "a folder that is not there": (["--amount", "50%", "-o", "no/where/p.pt"], 2, "no such folder"),
    "another ending": (["--amount", "50%", "-o", "p.onnx"], 2, "ends in .pt"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_clear_error_and_writes_nothing(name, dlkit, digits_model, tmp_path, monkeypatch):
    arguments, code, words = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    folder = sorted(digits_model.parent.iterdir())
    output = [] if "-o" in arguments else ["-o", "p.pt"]
    outcome = dlkit("prune", digits_model, *arguments, *([] if "--scan" in arguments else output))
    assert outcome.code == code, outcome.err
    assert words in outcome.err and "Traceback" not in outcome.err and outcome.out == ""
    assert not list(tmp_path.iterdir()) and sorted(digits_model.parent.iterdir()) == folder


def test_files_that_are_there_are_not_replaced(dlkit, digits_model, tmp_path):
    there = tmp_path / "p.pt"
    there.write_bytes(b"mine")
    for options, words in (((), "--force"), (("--scan",), "ends in")):
        outcome = dlkit("prune", digits_model, *(options or ("--amount", "50%")), "-o", there)
        assert outcome.code == 2 and words in outcome.err and there.read_bytes() == b"mine"
    outcome = dlkit("prune", digits_model, "--amount", "50%", "-o", digits_model, "--force")
    assert outcome.code == 2 and "the model that is pruned" in outcome.err


def test_a_quantized_model_is_refused(dlkit, digits_model, tmp_path):
    file = read_model_file(digits_model)
    spec = replace(file.spec, transforms=({"op": "quantize", "mode": "static"},))
    save_model_file(tmp_path / "int8.pt", spec, file.state_dict)
    outcome = dlkit("prune", tmp_path / "int8.pt", "--amount", "50%", "-o", tmp_path / "p.pt")
    assert outcome.code == 2 and "quantized already" in outcome.err and not (tmp_path / "p.pt").exists()


@pytest.fixture
def prune_own(dlkit, write_config, tmp_path):
    """`prune_own(text, "--amount", "50%")` trains the class Net of this text for a moment and prunes it to p.pt."""

    def run(text, *arguments):
        net = tmp_path / "net.py"
        net.write_text(text)
        config = write_config(f"data: {{name: digits, limit: 200}}\nmodel: {net}:Net\ntrain: {{epochs: 1}}\n")
        assert dlkit("train", config, "--out", tmp_path / "run", "-q").code == 0
        model = tmp_path / "run" / "model.pt"
        return dlkit("prune", model, *arguments, "--model", f"{net}:Net", "-o", tmp_path / "p.pt", "--no-latency")

    return run


SCALE_ALONE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(10))

    def forward(self, x):
        return x.flatten(1)[:, :10] * self.scale
"""


def test_a_network_with_nothing_to_prune_is_refused(prune_own, tmp_path):
    outcome = prune_own(SCALE_ALONE, "--amount", "50%")
    assert outcome.code == 2 and "nothing to prune" in outcome.err and not (tmp_path / "p.pt").exists()


def test_weights_from_elsewhere_are_pruned_without_data(dlkit, tmp_path):
    import torchvision

    torch.save(torchvision.models.squeezenet1_1(num_classes=4).state_dict(), tmp_path / "w.pt")
    outcome = dlkit(
        "prune", tmp_path / "w.pt", "--arch", "torchvision:squeezenet1_1", "--image-size", "64", "--amount", "50%",
        "--seconds", "0.01", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert facts["output"] == str(tmp_path / "w.pruned.pt") and facts["before"]["scores"]["metrics"] == {}
    assert (
        dlkit(
            "prune", tmp_path / "w.pt", "--arch", "torchvision:squeezenet1_1", "--amount", "50%", "--finetune", "1"
        ).code
        == 2
    )
    zero, total = zeros(tmp_path / "w.pruned.pt")
    assert abs(zero / total - 0.5) < 0.001


SHRINK = ("--shrink", "--round-to", "1", "--no-latency")


def test_a_smaller_file_that_everything_takes(prune, dlkit, digits_model, tmp_path):
    outcome = prune(
        "--amount", "50%", "--shrink", "--round-to", "1", "--finetune", "2", "--lr", "0.01", *QUICK, "--json"
    )
    assert outcome.code == 0, outcome.err
    facts, path = json.loads(outcome.out), tmp_path / "p.pt"
    before, after = facts["before"]["costs"], facts["after"]["costs"]
    assert after["num_parameters"] < 0.3 * before["num_parameters"] and after["macs"] < 0.3 * before["macs"]
    assert after["sizes"]["bytes"] < 0.7 * before["sizes"]["bytes"]
    assert facts["checks"]["reloaded_outputs_are_equal"] and facts["checks"]["is_exact"]
    assert {group["id"]: group["num_kept"] for group in facts["groups"]}["features.0.conv"] == 4
    assert facts["groups"][-1]["note"] == "reaches the model's output"
    judged = json.loads(dlkit("eval", path, "--json").out)["metrics"]
    assert judged["accuracy"] == facts["after"]["scores"]["metrics"]["accuracy"] > 0.7
    again = dlkit("prune", path, "--amount", "50%", *SHRINK, "-o", tmp_path / "again.pt", "--json")
    assert again.code == 0, again.err
    assert len(read_model_file(tmp_path / "again.pt").spec.transforms) == 2
    first, second = (
        read_model_file(place).spec.provenance["prune"]["original"] for place in (path, tmp_path / "again.pt")
    )
    assert first == second and first["num_parameters"] == before["num_parameters"]
    assert first["num_bytes"] == digits_model.stat().st_size and first["scores"] == facts["before"]["scores"]
    assert dlkit("eval", tmp_path / "again.pt").code == 0


@pytest.mark.slow
def test_quantizing_and_timing_a_shrunk_file(prune, dlkit, digits_model, tmp_path):
    assert prune("--amount", "50%", *SHRINK).code == 0
    path = tmp_path / "p.pt"
    timed = dlkit("bench", digits_model, path, "--batch", "1", "--engine", "eager", "--seconds", "0.1", "--json")
    assert timed.code == 0, timed.err
    int8 = dlkit("quantize", path, "--dynamic", "-o", tmp_path / "int8.pt", "--no-latency")
    assert int8.code == 0, int8.err
    assert [change["op"] for change in read_model_file(tmp_path / "int8.pt").spec.transforms] == ["prune", "quantize"]
    refused = dlkit("prune", tmp_path / "int8.pt", "--amount", "50%", "-o", tmp_path / "no.pt")
    assert refused.code == 2 and "quantized already" in refused.err


@pytest.mark.slow
@pytest.mark.parametrize("mode", [("--static", "--seconds", "0.1"), ("--qat", "--epochs", "1", "--no-latency")])
def test_pruned_then_quantized_tells_the_total(prune, dlkit, digits_model, tmp_path, mode):
    assert prune("--amount", "50%", *SHRINK, "--finetune", "1").code == 0
    outcome = dlkit("quantize", tmp_path / "p.pt", *mode, "-o", tmp_path / "int8.pt", "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    total, accuracy = facts["total"], facts["comparison"]["after"]["scores"]["metrics"]["accuracy"]
    float_accuracy = json.loads(dlkit("eval", digits_model, "--json").out)["metrics"]["accuracy"]
    assert total["accuracy"] == [float_accuracy, accuracy]
    assert total["drop_points"] == pytest.approx(100 * (float_accuracy - accuracy))
    assert total["size_ratio"] == (tmp_path / "int8.pt").stat().st_size / digits_model.stat().st_size
    if "--no-latency" in mode:
        assert total["speeds"] is None
    else:
        assert total["speeds"]["baseline"] == {"model": "original", "engine": "eager"}
        assert {row["model"] for row in total["speeds"]["rows"]} == {"original", "int8"}
    assert json.loads(dlkit("eval", tmp_path / "int8.pt", "--json").out)["metrics"]["accuracy"] == accuracy


@pytest.mark.slow
def test_the_total_is_left_out_where_it_cannot_be_told(prune, dlkit, digits_model, tmp_path):
    plain = dlkit("quantize", digits_model, "--static", "-o", tmp_path / "a.pt", "--no-latency", "--json")
    assert plain.code == 0 and json.loads(plain.out)["total"] is None
    assert prune("--amount", "50%", *SHRINK).code == 0
    judged_elsewhere = dlkit(
        "quantize", tmp_path / "p.pt", "--static", "--split", "val", "-o", tmp_path / "b.pt", "--no-latency", "--json"
    )
    assert judged_elsewhere.code == 0, judged_elsewhere.err
    total = json.loads(judged_elsewhere.out)["total"]
    assert total["drop_points"] is None and total["speeds"] is None and total["size_ratio"] < 0.5


@pytest.mark.slow
def test_a_shrunk_file_loads_in_a_fresh_process(prune, tmp_path):
    assert prune("--amount", "50%", *SHRINK).code == 0
    code = (
        "import sys, torch, dlkit\n"
        "plain = torch.load(sys.argv[1], weights_only=True)\n"
        "network = dlkit.load_model(sys.argv[1])\n"
        "state = network.state_dict()\n"
        "assert all(torch.equal(tensor, state[name]) for name, tensor in plain['state_dict'].items())\n"
        "print(tuple(network(torch.zeros(3, 1, 8, 8)).shape), network.features[0].conv.out_channels)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "p.pt"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(3, 10) 4"


@pytest.mark.parametrize(("target", "key"), [("macs=50%", "macs"), ("params=5k", "num_parameters")])
def test_targets_find_the_amount_themselves(target, key, prune):
    outcome = prune("--target", target, "--round-to", "1", "--no-latency", "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    limit = 5000 if key == "num_parameters" else 0.5 * facts["before"]["costs"]["macs"]
    assert 0.9 * limit < facts["after"]["costs"][key] == facts["target"]["after"] <= limit
    assert facts["request"]["target"] == target and facts["sentences"][0].startswith("target ")


@pytest.mark.slow
def test_a_target_of_latency(dlkit, write_config, tmp_path):
    wide = "data: {name: digits, limit: 200}\nmodel: {name: small_cnn, width: 128}\ntrain: {epochs: 1}\n"
    assert dlkit("train", write_config(wide), "--out", tmp_path / "run", "-q").code == 0
    outcome = dlkit("prune", tmp_path / "run" / "model.pt", "--target", "latency=80%", "--json", "--seconds", "0.2")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert facts["target"]["after"] <= 0.8 * facts["target"]["before"]
    assert facts["after"]["costs"]["macs"] < facts["before"]["costs"]["macs"]


def test_a_method_that_ranks_nothing_is_refused(dlkit, write_config, tmp_path):
    plain = "data: {name: digits, limit: 200}\nmodel: {name: mlp, hidden: [16]}\ntrain: {epochs: 1}\n"
    assert dlkit("train", write_config(plain), "--out", tmp_path / "run", "-q").code == 0
    model = tmp_path / "run" / "model.pt"
    outcome = dlkit("prune", model, "--amount", "50%", "--shrink", "--method", "bn", "-o", tmp_path / "p.pt")
    assert outcome.code == 2 and "--method bn" in outcome.err and not (tmp_path / "p.pt").exists()
    recal = dlkit("prune", model, "--amount", "50%", "--bn-recal", "5", "-o", tmp_path / "p.pt")
    assert recal.code == 2 and "no batch norm" in recal.err and not (tmp_path / "p.pt").exists()


def test_the_plan_of_groups_is_what_is_then_done(prune, tmp_path):
    plan = json.loads(prune("--amount", "50%", *SHRINK, "--plan", "--json").out)
    assert not list(tmp_path.iterdir())
    result = json.loads(prune("--amount", "50%", *SHRINK, "--json").out)
    assert plan["groups"] == result["groups"]
    assert plan["num_parameters"][1] == result["after"]["costs"]["num_parameters"]
    assert plan["macs"][1] == result["after"]["costs"]["macs"]
    shown = prune("--amount", "50%", *SHRINK, "--plan").out
    assert "8 -> 4" in shown and "reaches the model's output" in shown and "Nothing was written." in shown


def test_the_scan_of_groups_leaves_the_network_alone(prune, dlkit, digits_model, tmp_path):
    outcome = dlkit("prune", digits_model, "--scan", "--shrink", "-o", tmp_path / "s.png", "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert [part["size"] for part in facts["parts"]] == [8, 16, 16, 32]
    assert all(part["losses"][-1] > facts["loss"] for part in facts["parts"])


def test_a_group_that_the_code_does_not_let_go_of_is_named(prune_own):
    outcome = prune_own(FIXED_SIZE, "--amount", "50%", "--shrink", "--round-to", "1", "--json")
    assert outcome.code == 0, outcome.err
    groups = {group["id"]: group for group in json.loads(outcome.out)["groups"]}
    assert groups["first"]["num_kept"] == 4 and groups["second"]["num_kept"] == 6
    assert groups["second"]["note"] == "with fewer channels the network's own code fails"


def test_rounding_that_changes_the_amount_is_told(prune):
    def notes(*options):
        rows = json.loads(prune("--shrink", "--plan", "--json", *options).out)["groups"]
        return {row["num_channels"]: (row["num_kept"], row["note"]) for row in rows}

    found = notes("--amount", "60%")
    assert found[8] == (8, "stays whole: no smaller multiple of 8 (--round-to)")
    assert found[16] == (8, "multiple of 8 nearest to 6 (--round-to)")
    assert notes("--amount", "60%", "--round-to", "1")[16] == (6, "")
    assert notes("--amount", "90%", "--round-to", "1", "--min-keep", "25%")[16] == (
        4,
        "at least 25% stays (--min-keep)",
    )


def test_a_network_that_hardly_shrinks_says_why(prune_own):
    outcome = prune_own(STANDARDIZED, "--amount", "50%", "--shrink", "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert any(
        "of the MACs are left, although 50% of the channels were to go" in sentence
        and "2x its weight is computed from other values at every call" in sentence
        for sentence in facts["sentences"]
    )


STANDARDIZED = """
import torch.nn.functional as F
from torch import nn


class StandardConv(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = StandardConv(1, 16, 3, padding=1), StandardConv(16, 32, 3)
        self.hidden, self.head = nn.Linear(32, 16), nn.Linear(16, 10)

    def forward(self, x):
        x = self.b(self.a(x).relu()).relu().mean((2, 3))
        return self.head(self.hidden(x).relu())
"""


FIXED_SIZE = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(96, 10)

    def forward(self, x):
        x = self.second(self.first(x).relu()).relu()
        return self.head(x.reshape(-1, 96))
"""


def changed(path, target, change):
    """A copy of a model file with one tensor changed in place."""
    file = read_model_file(path)
    change(file.state_dict["features.2.conv.weight"])
    save_model_file(target, file.spec, file.state_dict)
    return target


@pytest.mark.parametrize("way", [(), ("--shrink",), ("--plan",)])
def test_weights_that_are_not_finite_are_refused(prune, digits_model, tmp_path, way):
    def break_one(weight):
        weight[0, 0, 0, 0] = torch.nan

    broken = changed(digits_model, tmp_path / "nan.pt", break_one)
    outcome = prune("--amount", "50%", *way, model=broken)
    assert outcome.code == 5 and "features.2.conv.weight" in outcome.err and "not finite" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["nan.pt"]


def test_pruning_what_is_pruned_already(prune, dlkit, digits_model, tmp_path):
    assert prune("--amount", "80%", "--scope", "global", "--no-latency").code == 0
    for options in (("--scope", "global"), ("--scope", "global", "--iterations", "2", "--finetune", "1")):
        outcome = dlkit("prune", tmp_path / "p.pt", "--amount", "70%", *options, "-o", tmp_path / "less.pt")
        assert outcome.code == 2 and "80.0% of these weights are zero already" in outcome.err
        assert not (tmp_path / "less.pt").exists()
    more = dlkit(
        "prune", tmp_path / "p.pt", "--amount", "90%", "--scope", "global", "--no-latency", "-o", tmp_path / "q.pt"
    )
    assert more.code == 0, more.err
    zero, total = zeros(tmp_path / "q.pt")
    assert zero == round(0.9 * total)


def test_too_few_zeros_for_a_smaller_form_are_told_so(prune):
    outcome = prune("--count", "1", "--no-latency")
    assert outcome.code == 0 and "as many bytes are stored as before" in outcome.out


def test_a_folder_is_no_model_and_no_place_for_one(dlkit, prune, digits_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (".", str(digits_model.parent)):
        for options in (("--amount", "50%"), ("--scan",)):
            outcome = dlkit("prune", folder, *options)
            assert outcome.code == 4 and "a folder" in outcome.err
    (tmp_path / "p.pt").mkdir()
    outcome = prune("--amount", "50%", "--force")
    assert outcome.code == 2 and "is a folder" in outcome.err and not list((tmp_path / "p.pt").iterdir())


def test_a_report_that_cannot_be_written_leaves_no_model(dlkit, digits_model, tmp_path):
    """The model's name is as long as a name may be, and so the report's is too long."""
    name = "m" * 252 + ".pt"
    outcome = dlkit("prune", digits_model, "--amount", "50%", "--no-latency", "-o", tmp_path / name)
    assert outcome.code == 2 and ".report.json: file name too long" in outcome.err
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(prune, tmp_path):
    """A limit on the size of files stands for the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        outcome = prune("--amount", "50%", "--no-latency")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert outcome.code == 6 and "p.pt: File too large" in outcome.err and not list(tmp_path.iterdir())


def test_iterations_without_training_are_told(prune):
    assert "nothing is trained between" in prune("--amount", "50%", "--iterations", "2", "--no-latency").err
    assert "nothing is trained" not in prune("--amount", "50%", "--no-latency", "--force").err


def test_a_plan_without_an_amount_lists_what_there_is(prune):
    for options in ((), ("--shrink",)):
        shown = prune("--plan", *options).out
        assert "no amount yet" in shown and "Say how much" in shown
        assert "Say how much" not in prune("--plan", "--amount", "50%", *options).out


def test_inspecting_a_pruned_file(prune, dlkit, tmp_path):
    assert prune("--amount", "50%", *SHRINK, "--finetune", "0.5").code == 0
    shown = dlkit("inspect", tmp_path / "p.pt").out
    judged = json.loads(dlkit("eval", tmp_path / "p.pt", "--json").out)["metrics"]
    assert "prune: 9 layers are smaller" in shown and "channels removed by l2, 50% of each layer" in shown
    assert f"accuracy {judged['accuracy']:.2%}" in shown and "before it was" not in shown


DRAWN_ANEW = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.shift = nn.Linear(64, 10), torch.rand(10)

    def forward(self, x):
        return self.head(x.flatten(1)) + self.shift
"""


def test_a_file_that_does_not_give_the_network_back_is_not_left_behind(prune_own, tmp_path):
    """The network draws a part of itself whenever it is built, and no file holds that."""
    outcome = prune_own(DRAWN_ANEW, "--amount", "50%")
    assert outcome.code == 1 and "has other outputs; nothing was written" in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cfg.yaml", "net.py", "run"]


def test_divergence_writes_nothing(prune, tmp_path):
    outcome = prune("--amount", "50%", "--finetune", "1", "--lr", "1e30", "--no-latency")
    assert outcome.code == 5 and "lower" in outcome.err and not list(tmp_path.iterdir())


NORMED = """
from torch import nn
from torch.nn.utils import parametrizations


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        wrap = {wrap}
        self.first = wrap(nn.Conv2d(1, 16, 3, padding=1))
        self.hidden, self.last, self.head = nn.Linear(16, 24), nn.Linear(24, 16), wrap(nn.Linear(16, 10))

    def forward(self, x):
        x = self.first(x).relu().mean((2, 3))
        return self.head(self.last(self.hidden(x).relu()).relu())
"""
WRAPS = [
    "nn.utils.weight_norm",
    "nn.utils.spectral_norm",
    "parametrizations.weight_norm",
    "parametrizations.spectral_norm",
]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("wrap", WRAPS)
def test_computed_weights_train_with_an_average_and_are_named_when_pruned(dlkit, write_config, tmp_path, wrap):
    kind = wrap.rpartition(".")[2]
    net = tmp_path / "net.py"
    net.write_text(NORMED.replace("{wrap}", wrap))
    config = write_config(
        f"data: {{name: digits, limit: 200}}\nmodel: {net}:Net\ntrain: {{epochs: 1}}\nema: {{decay: 0.9}}\n"
    )
    trained = dlkit("train", config, "--out", tmp_path / "run", "-q")
    assert trained.code == 0, trained.err
    own, out = ("--model", f"{net}:Net"), tmp_path / "p.pt"
    options = ("--amount", "50%", "--no-latency", "--force", "-o", out, *own)
    masked = dlkit("prune", tmp_path / "run" / "model.pt", *options, "--structured", "--json")
    assert masked.code == 0, masked.err
    layers = {layer["name"] for layer in json.loads(masked.out)["layers"]}
    assert layers == {"hidden.weight", "last.weight"}  # no outputs: those are made by a computed weight behind them
    reason = f"its weight is computed by {kind} at every call"
    assert json.loads(masked.out)["left_alone"] == {"first": reason, "head": reason}
    shrunk = dlkit("prune", tmp_path / "run" / "model.pt", *options, "--shrink", "--round-to", "1", "--json")
    assert shrunk.code == 0, shrunk.err
    groups = {group["id"]: group for group in json.loads(shrunk.out)["groups"]}
    assert groups["hidden"]["num_kept"] == 12
    assert groups["first"]["note"] == reason and groups["last"]["note"] == f"is read by head: {reason}"
    assert dlkit("eval", out, *own).code == 0


def test_taylor_without_a_group_that_is_read_is_refused(prune_own):
    outcome = prune_own(UNREAD, "--amount", "50%", "--shrink", "--round-to", "1", "--method", "taylor")
    assert outcome.code == 2 and "--method taylor can rank no channels" in outcome.err


UNREAD = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Conv2d(1, 8, 3), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(x.flatten(1)) + self.hidden(x).sum((1, 2, 3))[:, None]
"""
