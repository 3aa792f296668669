import pytest
import torch
import torchvision.transforms.v2 as v2
from torch import Tensor
from torch.nn.functional import one_hot

from dlkit.core.data import CutMix, Draws, MixUp


def batch(count: int, size: tuple[int, int] = (8, 8)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (count,), generator=generator)
    return torch.rand(count, 3, *size, generator=generator), one_hot(labels, 5).float()


def draws(count: int, seed: int = 0) -> Draws:
    return Draws(seed, 0, torch.arange(count))


def test_mixup_blends_with_the_sample_before_in_its_own_share() -> None:
    inputs, targets = batch(6)
    share = draws(6).beta(0.4).float()
    mixed, labels = MixUp(0.4)(inputs, targets, draws(6))
    for row in range(6):
        expected = share[row] * inputs[row] + (1 - share[row]) * inputs[row - 1]
        torch.testing.assert_close(mixed[row], expected)
        torch.testing.assert_close(labels[row], share[row] * targets[row] + (1 - share[row]) * targets[row - 1])
    torch.testing.assert_close(labels.sum(1), torch.ones(6))
    assert len(share.unique()) == 6


def test_one_share_for_all_gives_torchvisions_mixup(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, targets = batch(6)
    monkeypatch.setattr(Draws, "beta", lambda self, alpha: torch.full((6,), 0.3, dtype=torch.float64))
    theirs = v2.MixUp(num_classes=5)
    monkeypatch.setattr(theirs, "make_params", lambda flat: {"lam": 0.3})
    mixed, labels = MixUp(0.4)(inputs, targets, draws(6))
    expected = theirs(inputs, targets.argmax(1))
    torch.testing.assert_close(mixed, expected[0])
    torch.testing.assert_close(labels, expected[1])


@pytest.mark.parametrize("size", [(8, 8), (7, 12)])
def test_cutmix_pastes_one_box_and_mixes_labels_by_its_area(size: tuple[int, int]) -> None:
    inputs, targets = batch(300, size)
    mixed, labels = CutMix(1.0)(inputs, targets, draws(300))
    area = size[0] * size[1]
    shares = []
    for row in range(300):
        pasted = (mixed[row] == inputs[row - 1]).all(0)
        kept = (mixed[row] == inputs[row]).all(0)
        assert (pasted ^ kept).all()
        rows, columns = pasted.any(1), pasted.any(0)
        assert int(pasted.sum()) == int(rows.sum()) * int(columns.sum())
        share = 1 - int(pasted.sum()) / area
        torch.testing.assert_close(labels[row], share * targets[row] + (1 - share) * targets[row - 1])
        shares.append(share)
    assert len(set(shares)) > 15


def test_cutmix_boxes_are_distributed_as_in_torchvision(same_distribution) -> None:  # type: ignore[no-untyped-def]
    size = (8, 10)
    inputs, targets = batch(4000, size)
    labels = CutMix(0.7)(inputs, targets, draws(4000))[0]
    ours = (labels == inputs.roll(1, 0)).all(1).sum((1, 2))
    torch.manual_seed(0)
    theirs = v2.CutMix(alpha=0.7, num_classes=5)
    pair = batch(2, size)
    found = []
    for _ in range(2000):
        x1, y1, x2, y2 = theirs.make_params([pair[0]])["box"]
        found.append((x2 - x1) * (y2 - y1))
    assert same_distribution(ours, torch.tensor(found))


def test_mixup_takes_features_and_float_targets() -> None:
    inputs, targets = torch.arange(6.0).view(3, 2), torch.tensor([[0.0], [1.0], [5.0]])
    mixed, blended = MixUp(2.0)(inputs, targets, draws(3))
    share = draws(3).beta(2.0)
    torch.testing.assert_close(blended[2, 0].double(), share[2] * 5 + (1 - share[2]) * 1)
    assert mixed.shape == inputs.shape and mixed.dtype == torch.float32


@pytest.mark.parametrize("kind", [MixUp, CutMix])
@pytest.mark.parametrize("alpha", [0, -1.0, float("nan")])
def test_alpha_must_be_positive(kind: type, alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be above 0"):
        kind(alpha)
