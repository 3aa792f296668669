import math

import pytest
import torch

from dlkit.core.data import Draws, Stream, hash_indices, hash_key, integers, permutation


def test_indices_follow_the_published_splitmix64_sequence() -> None:
    # the sequence for seed 1234567 as printed in the generator's reference listings
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    bits = hash_indices(torch.tensor(1234567), torch.arange(5))
    assert [value % 2**64 for value in bits.tolist()] == expected


def test_keys_depend_on_every_number_their_order_and_their_count() -> None:
    keys = {hash_key(*numbers) for numbers in [(), (0,), (0, 0), (1, 0), (0, 1), (1,), (-1,), (2**63,), (2**64 + 1, 5)]}
    assert len(keys) == 9
    assert all(0 <= key < 2**64 for key in keys)
    assert hash_key(3, 4) == hash_key(3, 4)


def kolmogorov(values: torch.Tensor) -> float:
    ordered = values.sort().values
    steps = torch.arange(len(values) + 1) / len(values)
    gap = torch.maximum((ordered - steps[:-1]).abs().max(), (steps[1:] - ordered).abs().max())
    return float(gap) * math.sqrt(len(values))


@pytest.mark.parametrize("seed", [0, 1, 2**62])
def test_draws_are_uniform_over_samples_epochs_and_draw_numbers(seed: int) -> None:
    # sqrt(n) times the Kolmogorov distance exceeds 2.3 once in 20,000 times
    samples = Draws(seed, 0, torch.arange(20_000)).uniforms(2)
    assert kolmogorov(samples[:, 0]) < 2.3
    assert kolmogorov(samples[:, 1]) < 2.3
    one_sample = torch.cat([Draws(seed, epoch, torch.tensor([7])).uniforms(5) for epoch in range(2000)])
    assert kolmogorov(one_sample.flatten()) < 2.3
    assert float(samples.min()) >= 0 and float(samples.max()) < 1


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1]) * math.sqrt(len(first))


def test_draws_do_not_depend_on_their_neighbours() -> None:
    indices = torch.arange(20_000)
    base = Draws(5, 3, indices).uniforms(2)
    others = {
        "draw": base[:, 1],
        "sample": base[:, 0].roll(1),
        "epoch": Draws(5, 4, indices).uniforms(1)[:, 0],
        "seed": Draws(6, 3, indices).uniforms(1)[:, 0],
        "stage": Draws(5, 3, indices).stage(0).uniforms(1)[:, 0],
        "all epochs": Draws(5, 3, indices).for_all_epochs().uniforms(1)[:, 0],
    }
    for name, values in others.items():
        assert abs(correlation(base[:, 0], values)) < 4.5, name
        # pairs fill the square evenly, not only without linear dependence: 16 x 16 cells
        cells = (base[:, 0] * 16).long() * 16 + (values * 16).long()
        counts = torch.bincount(cells, minlength=256).double()
        assert float(((counts - 78.125) ** 2 / 78.125).sum()) < 370, name


def test_a_sample_draws_the_same_alone_and_in_any_company() -> None:
    indices = torch.tensor([5, 99, 0, 7, 123_456_789])
    together = Draws(3, 2, indices).stage(4).uniforms(6)
    for row, index in enumerate(indices.tolist()):
        assert torch.equal(Draws(3, 2, torch.tensor([index])).stage(4).uniforms(6)[0], together[row])
    assert torch.equal(Draws(3, 2, indices.flip(0)).stage(4).uniforms(6), together.flip(0))
    assert torch.equal(Draws(3, 2, indices).stage(4).uniforms(2), together[:, :2])


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_beta_has_the_moments_of_beta_and_stays_in_range(alpha: float) -> None:
    values = Draws(0, 1, torch.arange(40_000)).beta(alpha)
    variance = 1 / (4 * (2 * alpha + 1))
    fourth = 3 * variance**2 * (1 - 2 / (2 * alpha + 3))
    assert float(values.min()) >= 0 and float(values.max()) <= 1 and not values.isnan().any()
    assert abs(float(values.mean()) - 0.5) < 4.5 * math.sqrt(variance / 40_000)
    assert abs(float(values.var()) - variance) < 4.5 * math.sqrt((fourth - variance**2) / 40_000)
    # symmetric: as many below the middle as above
    assert abs(int((values < 0.5).sum()) - 20_000) < 450


def test_beta_of_alpha_one_is_uniform_and_does_not_depend_on_the_company() -> None:
    draws = Draws(4, 0, torch.arange(10_000))
    assert kolmogorov(draws.beta(1.0)) < 2.3
    part = Draws(4, 0, torch.arange(100, 120)).beta(0.3)
    # vectorized logarithms differ in the last bit with a number's place in memory
    torch.testing.assert_close(part, draws.beta(0.3)[100:120], rtol=1e-13, atol=0)


def test_permutation_holds_every_number_once_and_shuffles_evenly() -> None:
    order = permutation(hash_key(0, Stream.ORDER, 0), 1000)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert not torch.equal(order, permutation(hash_key(0, Stream.ORDER, 1), 1000))
    assert permutation(1, 0).tolist() == [] and permutation(1, 1).tolist() == [0]
    # all 24 orders of four things come up alike
    orders = torch.stack([permutation(hash_key(9, epoch), 4) for epoch in range(4800)])
    counts = torch.bincount(orders @ torch.tensor([64, 16, 4, 1]))
    counts = counts[counts > 0].double()
    assert len(counts) == 24
    assert float(((counts - 200) ** 2 / 200).sum()) < 70


def test_integers_cover_their_range_and_never_reach_its_end() -> None:
    values = integers(Draws(0, 0, torch.arange(9000)).uniforms(1)[:, 0], 9)
    counts = torch.bincount(values)
    assert len(counts) == 9
    assert float(((counts - 1000.0) ** 2 / 1000).sum()) < 50
    largest = torch.full((64,), 1 - 2.0**-53, dtype=torch.float64)
    highs = torch.arange(1, 65)
    assert (integers(largest, highs) == highs - 1).all()


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Draws(0, 0, torch.arange(10)).beta(0.5)
    permutation(3, 10)
    assert torch.equal(torch.rand(3), expected)
