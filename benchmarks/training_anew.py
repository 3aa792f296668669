"""The baseline of every claim about pruning: the same small network, trained from new weights.

Liu et al., Rethinking the value of network pruning, 2019, arXiv:1810.05270.
"""

from pathlib import Path

from dlkit.core.evaluation import evaluate
from dlkit.core.modelfile import ModelFile, load_model, read_model_file
from dlkit.core.trained_config import own_config
from dlkit.core.training import build_fine_tuning, fine_tune, pick_lr
from dlkit.events import ignore


def train_anew(path: Path, *, epochs: float) -> float:
    """Returns the accuracy on the test split (else validation) of a file's network, trained for so many epochs from new weights at the
    rate of its config. A masked network is dense here.
    """
    file = read_model_file(path)
    network, loaded = load_model(path), own_config(file)
    for module in network.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    device = next(network.parameters()).device
    tuning = build_fine_tuning(
        loaded, network, file.spec.info, epochs=epochs, lr=rate_of(file), device=device, emit=ignore
    )
    fine_tune(tuning, emit=ignore, judge_first=False)
    split = tuning.data.test or tuning.data.val
    assert split is not None
    return (evaluate(network, split, tuning.learner.scoring) or {})["accuracy"]


def rate_of(file: ModelFile) -> float:
    """The learning rate of the first training."""
    config = own_config(file).config
    return pick_lr(config.optimizer, config.model.name)
