"""Every sample is read once by one of the processes, in the batches that one process would make."""

import pytest
import torch

from dlkit.core.data import BatchPlan, SharedBatches, SharedTurns

SIZES = [(num_samples, batch_size, num_ranks) for num_samples in (1, 2, 3, 7, 40, 41, 43, 101)
         for batch_size in (1, 2, 5) for num_ranks in (1, 2, 3, 8)]  # fmt: skip


@pytest.mark.parametrize(("num_samples", "batch_size", "num_ranks"), SIZES)
def test_pieces_make_up_the_batch_of_one_process(num_samples, batch_size, num_ranks):
    size = batch_size * num_ranks
    one = BatchPlan(num_samples, size, seed=3, shuffle=True, drop_last="single")
    plans = [SharedBatches(num_samples, size, 3, True, "single", rank, num_ranks) for rank in range(num_ranks)]
    for epoch in (0, 1):
        wholes = list(one.positions(epoch))
        turns = [list(plan.turns(epoch)) for plan in plans]
        assert {len(found) for found in turns} == {len(wholes)} == {plan.num_batches for plan in plans}
        for number, positions in enumerate(wholes):
            pieces = [found[number] for found in turns]
            counted = [piece.positions for piece in pieces if piece.is_counted]
            assert torch.equal(torch.cat(counted), positions)
            assert all(len(piece) <= max(batch_size, 3 if batch_size > 1 else 1) for piece in counted)
            # a batch norm cannot work on one sample, so nobody gets one where two were to be had
            assert min(map(len, counted)) >= min(2, batch_size, len(positions))
            assert all(len(piece.positions) == 1 for piece in pieces if not piece.is_counted)
    if num_samples > 3:
        assert not torch.equal(torch.cat(list(one.positions(0))), torch.cat(list(one.positions(1))))


def test_reading_begins_at_any_batch():
    plan = SharedBatches(103, 12, 0, True, False, 1, 3)
    for start in range(plan.num_batches):
        later = [turn.positions.tolist() for turn in plan.turns(2, start)]
        assert later == [turn.positions.tolist() for turn in plan.turns(2)][start:]


@pytest.mark.parametrize(("num_samples", "batch_size", "num_ranks"), SIZES)
def test_whole_batches_in_turn(num_samples, batch_size, num_ranks):
    one = [positions.tolist() for positions in BatchPlan(num_samples, batch_size, 0).positions(0)]
    for is_filled in (False, True):
        plans = [
            SharedTurns(num_samples, batch_size, 0, False, False, rank, num_ranks, is_filled)
            for rank in range(num_ranks)
        ]
        turns = [list(plan.turns(0)) for plan in plans]
        counted = [[turn.positions.tolist() for turn in found if turn.is_counted] for found in turns]
        assert sorted(sum(counted, [])) == sorted(one) and counted[0][0] == one[0]
        assert not is_filled or len({len(found) for found in turns}) == 1
