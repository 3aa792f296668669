import math

from dlkit.core.training import BestSoFar, EarlyStopping, is_better, pick_mode


def test_mode_goes_by_the_name():
    assert pick_mode("val_accuracy") == pick_mode("val_ema_accuracy") == pick_mode("val_r2") == "max"
    assert pick_mode("val_loss") == pick_mode("val_mae") == "min"
    assert pick_mode("val_accuracy", "min") == "min"


def test_better_by_more_than_min_delta_and_never_nan():
    assert is_better(0.5, None, mode="max") and is_better(0.5, math.nan, mode="min")
    assert not is_better(math.nan, None, mode="max")
    assert not is_better(0.5, 0.5, mode="max") and not is_better(0.55, 0.5, mode="max", min_delta=0.1)


def test_best_survives_a_resume():
    """0.5, 0.9, 0.4, then after a resume 0.6: the best is still the 0.9 of epoch 2."""
    first = BestSoFar("val_accuracy", "max")
    assert [first.observe(value, epoch) for epoch, value in enumerate((0.5, 0.9, 0.4), 1)] == [True, True, False]
    second = BestSoFar("val_accuracy", "max")
    second.load_state_dict(first.state_dict())
    assert not second.observe(0.6, 4) and (second.value, second.epoch) == (0.9, 2)
    other = BestSoFar("val_loss", "min")
    other.load_state_dict(first.state_dict())
    assert other.value is None


def test_early_stopping_counts_and_waits_for_min_epochs():
    stopping = EarlyStopping("val_loss", "min", patience=2, min_epochs=5)
    stops = [stopping.observe(value, epoch) for epoch, value in enumerate((1.0, 0.5, 0.6, 0.7, 0.8), 1)]
    assert stops == [False, False, False, False, True]
    resumed = EarlyStopping("val_loss", "min", patience=2)
    resumed.load_state_dict(stopping.state_dict())
    assert resumed.best == 0.5 and resumed.num_bad == 3
