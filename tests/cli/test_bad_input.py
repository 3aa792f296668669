"""Bad input gets one clear error naming the place and the fix, the documented exit code, and nothing half-written."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

BASE = """
data: {name: fake, num_samples: 80, shape: [3, 16, 16], num_classes: 3, batch_size: 16}
model: {name: small_cnn, width: 4}
train: {epochs: 1}
log: {tensorboard: false}
"""


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "images"
    for name in ("cats", "dogs"):
        (root / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (20, 20), (index * 20, 30, 200)).save(root / name / f"{index}.png")
    return root


def folder_config(root, model="small_cnn"):
    return f"data: {{name: imagefolder, path: {root}, image_size: 16, batch_size: 4}}\nmodel: {model}\ntrain: {{epochs: 1}}\n"


def refused(outcome, code, *texts):
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    for text in texts:
        assert text in outcome.err, outcome.err
    assert outcome.err.count("error:") == 1


def test_six_mistakes_in_one_go(write_config):
    path = write_config(
        "data:\n  name: digits\n  batchsize: 64\nmodel: small_cn\noptimizer:\n  name: adamw\n  weight_deacy: 0.1\n"
        "schedule: {name: cosin}\ntrain:\n  epochs: 10x\n  clip: {nrom: 1}\n"
    )
    done = subprocess.run([sys.executable, "-m", "dlkit", "train", str(path)], capture_output=True, text=True)
    assert done.returncode == 2
    for text in (
        ":3:3  data.batchsize: unknown key", "Did you mean 'batch_size'?",
        ":4:8  model: no model 'small_cn'. Did you mean 'small_cnn'?",
        ":7:3  optimizer.weight_deacy: unknown key for AdamW. Did you mean 'weight_decay'?",
        ":8:18  schedule.name: no schedule 'cosin'. Did you mean 'cosine'?",
        ":10:11  train.epochs: expected an integer of at least 1, got '10x'",
        ":11:10  train.clip.nrom: unknown key. Did you mean 'norm'?",
        "6 problems; nothing was started",
    ):  # fmt: skip
        assert text in done.stderr, done.stderr


def test_label_out_of_range(dlkit, write_config, tmp_path):
    (tmp_path / "bad.py").write_text(
        "import torch\n\n\nclass Bad(torch.utils.data.Dataset):\n    classes = ('a', 'b')\n\n    def __len__(self):\n        return 40\n\n"
        "    def __getitem__(self, index):\n        return torch.zeros(4), 7 if index == 17 else index % 2\n"
    )
    path = write_config("data: {name: './bad.py:Bad', batch_size: 8}\nmodel: mlp\ntrain: {epochs: 1}\n")
    refused(dlkit("train", path, "--out", tmp_path / "run"), 3, "17", "7")
    assert not (tmp_path / "run").exists()


def test_empty_class_folder(dlkit, write_config, images, tmp_path):
    (images / "birds").mkdir()
    refused(dlkit("train", write_config(folder_config(images)), "--out", tmp_path / "run"), 3, "birds")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_corrupt_image(dlkit, write_config, images, tmp_path, cache):
    whole = (images / "dogs" / "3.png").read_bytes()
    (images / "dogs" / "3.png").write_bytes(whole[: len(whole) // 2])
    outcome = dlkit("train", write_config(folder_config(images)), f"data.cache={cache}", "--out", tmp_path / "run")
    refused(outcome, 3, "dogs/3.png")
    assert not (tmp_path / "run").exists()


def test_missing_folder(dlkit, write_config, tmp_path):
    refused(dlkit("train", write_config(folder_config(tmp_path / "nowhere"))), 3, "nowhere")


def test_array_of_objects(dlkit, write_config, tmp_path):
    np.savez(tmp_path / "data.npz", x=np.array([{}, {}]), y=np.array([0, 1]))
    path = write_config(f"data: npz:{tmp_path / 'data.npz'}\nmodel: mlp\ntrain: {{epochs: 1}}\n")
    refused(dlkit("train", path, "--out", tmp_path / "run"), 3, "x in ", "holds Python objects")
    assert not (tmp_path / "run").exists()


def test_wrong_number_of_channels(dlkit, write_config, tmp_path):
    """The network names the layer and both numbers."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef net(num_classes):\n    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1),"
        " nn.Flatten(),"
        " nn.Linear(4, num_classes))\n"
    )
    path = write_config(BASE.replace("{name: small_cnn, width: 4}", "./net.py:net"))
    refused(
        dlkit("train", path, "--out", tmp_path / "run"),
        2,
        "layer '0' (Conv2d)",
        "expects 1 channels, not 3",
        "cfg.yaml:3",
    )
    assert not (tmp_path / "run").exists()


def test_asked_for_channels_that_the_data_do_not_have(dlkit, write_config):
    refused(
        dlkit("train", write_config(BASE.replace("width: 4", "width: 4, in_channels: 1"))),
        2,
        "3 channels",
        "cfg.yaml:3",
    )


def test_network_with_the_wrong_number_of_outputs(dlkit, write_config, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(768, 5))\n"
    )
    path = write_config(BASE.replace("{name: small_cnn, width: 4}", "./net.py:net"))
    refused(dlkit("train", path), 2, "(N, 5)", "3 classes")


def test_layer_mistake_is_told_by_layer(dlkit, write_config):
    path = write_config(
        BASE.replace(
            "{name: small_cnn, width: 4}",
            "{name: layers, layers: [{conv: {out: 8, kernel: 3}}, flatten, {linear: {in: 512, out: auto}}]}",
        )
    )
    refused(dlkit("train", path), 2, "layer 3 (linear)", "expects 512 features, gets 1568 (8x14x14)")


@pytest.mark.parametrize("out", ["file/run", "file"])
def test_unwritable_output_folder(dlkit, write_config, tmp_path, out):
    (tmp_path / "file").write_text("a file, not a folder")
    outcome = dlkit("train", write_config(BASE), "--out", tmp_path / out)
    refused(outcome, 2, "file")
    assert (tmp_path / "file").read_text() == "a file, not a folder"


def test_folder_in_use(dlkit, write_config, tmp_path):
    from dlkit.core.training.folder import create_run_folder

    folder = create_run_folder(out=tmp_path / "run", parent=tmp_path, name="x")
    try:
        refused(dlkit("train", write_config(BASE), "--out", tmp_path / "run"), 2, "in use by another run (pid")
    finally:
        folder.release()
    assert dlkit("train", write_config(BASE), "--out", tmp_path / "run").code == 0


def test_missing_config(dlkit, tmp_path):
    refused(dlkit("train", tmp_path / "none.yaml"), 2, "none.yaml")


def test_unknown_option_of_the_command(dlkit, write_config):
    outcome = dlkit("train", write_config(BASE), "--epoch", "3")
    assert outcome.code == 2 and "no option --epoch. Did you mean '--epochs'?" in outcome.err


def test_unknown_device(dlkit, write_config):
    refused(
        dlkit("train", write_config(BASE), "--device", "gpu"), 2, "expected auto, cpu, cuda, cuda:1 or mps, got 'gpu'"
    )
    refused(dlkit("train", write_config(BASE), "--device", "cuda:9"), 2, "torch sees")


def test_fp16_on_a_cpu(dlkit, write_config):
    refused(dlkit("train", write_config(BASE), "train.amp=fp16"), 2, "fp16 needs a GPU")


def test_glob_that_matches_nothing(dlkit, write_config):
    refused(
        dlkit("train", write_config(BASE), "optimizer.groups=[{match: 'fz.*', freeze: true}]"),
        2,
        "matches no parameter",
    )


def test_unknown_metric(dlkit, write_config):
    refused(dlkit("train", write_config(BASE), "train.early_stop={metric: val_acc}"), 2, "val_acc")


def test_custom_class_that_is_not_there(dlkit, write_config):
    refused(dlkit("train", write_config(BASE.replace("name: fake", "name: ./nothing.py:Data"))), 2, "nothing.py")


def test_a_file_without_its_class(dlkit, write_config):
    refused(
        dlkit("train", write_config(BASE.replace("{name: small_cnn, width: 4}", "./net.py"))),
        2,
        "names a file",
        "net.py:NAME",
    )


def config_that_fails(write_config, tmp_path, statement):
    """A config whose network runs this statement in training, after everything was built and checked."""
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self, num_classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(768, num_classes))\n\n    def forward(self, x):\n"
        f"        if self.training:\n            {statement}\n        return super().forward(x)\n"
    )
    return write_config(BASE.replace("{name: small_cnn, width: 4}", "./net.py:Net"))


@pytest.mark.parametrize(
    "error", ["MemoryError()", "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB')"]
)
def test_out_of_memory(dlkit, write_config, tmp_path, error):
    path = config_that_fails(write_config, tmp_path, f"raise {error}")
    outcome = dlkit("train", path, "--out", tmp_path / "run")
    refused(outcome, 6, "data.batch_size=8 train.accumulate=2", "gradient_checkpointing")


def test_torchvision_that_does_not_match(dlkit, write_config, tmp_path):
    path = config_that_fails(write_config, tmp_path, "raise RuntimeError('operator torchvision::nms does not exist')")
    outcome = dlkit("train", path, "--out", tmp_path / "run")
    assert outcome.code == 1 and "Install a matching pair" in outcome.err


def test_unexpected_errors_are_short_without_debug(dlkit, write_config, tmp_path):
    outcome = dlkit("train", config_that_fails(write_config, tmp_path, "1 / 0"), "--out", tmp_path / "run")
    assert outcome.code == 1 and "unexpected ZeroDivisionError" in outcome.err and "--debug" in outcome.err


@pytest.mark.parametrize(("kind", "code", "words"), [
    ("missing", 4, "no such file"), ("empty", 4, "empty"), ("text", 4, "not a file that torch.save wrote"),
    ("module", 4, "dlkit convert"), ("weights", 4, "without a description"), ("cut", 4, "truncated"),
    ("checkpoint", 4, "training checkpoint"),
])  # fmt: skip
def test_files_that_are_no_model_files(dlkit, tmp_path, kind, code, words):
    path = tmp_path / "model.pt"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("hello")
    elif kind == "module":
        torch.save(torch.nn.Linear(2, 2), path)
    elif kind == "weights":
        torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    elif kind == "checkpoint":
        torch.save({"format": "dlkit.train", "version": 1}, path)
    elif kind == "cut":
        torch.save(torch.nn.Linear(50, 50).state_dict(), path)
        path.write_bytes(path.read_bytes()[:-300])
    for command in (("eval", path), ("predict", path, path)):
        refused(dlkit(*command), code, words)


def test_line_100_is_not_drawn_as_a_picture(dlkit, write_config):
    told = dlkit("config", "check", write_config(BASE + "#\n" * 94 + "oops: 1\n"))
    assert told.code == 2 and "cfg.yaml:100:1" in told.err


def test_a_config_file_of_any_name_gives_a_run_that_can_be_repeated(dlkit, write_config, tmp_path):
    first = dlkit("train", write_config(BASE, name="my cfg ü.yaml"), f"runtime.out={tmp_path}")
    assert first.code == 0 and (tmp_path / "my-cfg-ü-001").is_dir(), first.err
    assert dlkit("train", tmp_path / "my-cfg-ü-001" / "config.resolved.yaml", "--dry-run").code == 0


FLAGS = {
    ("-k", "3"): "no option -k. Keys of the config are set without dashes, such as train.epochs=3",
    ("--momentum", "0.9"): "no option --momentum. Keys of the config are set without dashes: optimizer.momentum=0.9",
    ("--learning-rate=0.1",): "no option --learning-rate. Keys of the config are set without dashes: optimizer.lr=0.1",
    ("--train.epochs", "3"): "Keys of the config are set without dashes: train.epochs=3",
    ("--optimizer", "adam"): "Keys of the config are set without dashes: optimizer=adam",
    ("--batch_size", "3"): "no option --batch_size; it is written --batch-size",
    ("--verbos",): "no option --verbos. Did you mean '--verbose'?",
}


@pytest.mark.parametrize("words", FLAGS, ids=" ".join)
def test_keys_of_the_config_that_are_written_as_options(dlkit, write_config, words):
    done = dlkit("train", write_config(BASE), *words)
    assert done.code == 2 and FLAGS[words] in done.err and "\n" not in done.err.strip(), done.err


@pytest.mark.parametrize("command", [("config", "check"), ("config", "show"), ("lr-find",)], ids=" ".join)
def test_every_command_with_a_config_answers_them(dlkit, write_config, command):
    done = dlkit(*command, write_config(BASE), "--epochs", 3)
    assert done.code == 2 and "without dashes: train.epochs=3" in done.err


def test_a_folder_of_images_under_the_name_that_other_data_sets_use(dlkit, write_config, images):
    text = f"data: {{name: imagefolder, root: {images}}}\nmodel: small_cnn\n"
    done = dlkit("train", write_config(text), "--dry-run")
    assert done.code == 2 and "cfg.yaml:1:27  data.root: imagefolder calls it path: write data.path" in done.err
    done = dlkit("train", write_config(text.replace("root", "data_dir")), "--dry-run")
    assert "data.data_dir: unknown key for imagefolder. Did you mean 'path'?" in done.err


def test_common_keys_as_options_of_training(dlkit, write_config):
    shown = dlkit("train", write_config(BASE), "--epochs", 3, "--lr", 1e-5, "--batch-size", 8, "--print-config").out
    assert "\n  epochs: 3\n" in shown and "\n  lr: 1.0e-05\n" in shown and "\n  batch_size: 8\n" in shown, shown
    wrong = dlkit("train", write_config(BASE), "--epochs", 0)
    assert wrong.code == 2 and "train.epochs: expected an integer of at least 1, got 0" in wrong.err
