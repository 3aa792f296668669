"""Processes meet in a store in which earlier attempts have left their marks."""

import threading
import time

import pytest
import torch.distributed as dist

from dlkit.core.distributed import NobodyCame, World, agree_on_store


def meet(store, delays, timeout_s=20.0):
    """One attempt with a process for each delay in seconds; gives the prefixes of their stores, or what was raised."""
    found = [None] * len(delays)

    def take_part(rank):
        time.sleep(delays[rank])
        try:
            found[rank] = agree_on_store(store(), World(rank, len(delays)), timeout_s)
        except NobodyCame as error:
            found[rank] = error

    threads = [threading.Thread(target=take_part, args=(rank,)) for rank in range(len(delays))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture(params=["tcp", "file"])
def store(request, tmp_path):
    """Makes stores for as many processes as ask, all with the same content, as over the restarts of one torchrun."""
    if request.param == "file":
        return lambda: dist.FileStore(str(tmp_path / "store"), -1)
    server = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    return lambda: dist.TCPStore("127.0.0.1", server.port, None, False, wait_for_workers=False)


# whoever comes first finds what the attempt before has left, if it does not wait for the others to say it anew
@pytest.mark.parametrize("delays", [(0.2, 0, 0.1), (0, 0.2, 0.1), (0, 0, 0.3), (0, 0)])
def test_each_attempt_has_a_store_of_its_own(store, delays):
    first = meet(store, (0, 0, 0))
    for rank, own in enumerate(first):
        own.set(f"address/{rank}", "of the first attempt")
    second = meet(store, delays)
    for rank, own in enumerate(second):
        assert not own.check([f"address/{rank}"])
        own.set(f"address/{rank}", f"new {rank}")
    for own in second:
        assert [own.get(f"address/{rank}") for rank in range(len(delays))] == [
            f"new {rank}".encode() for rank in range(len(delays))
        ]
    assert first[0].get("address/1") == b"of the first attempt"


def test_who_did_not_come_is_named(store):
    lone, other = World(0, 4), World(2, 4)
    thread = threading.Thread(target=meet_alone, args=(store, other))
    thread.start()
    assert meet_alone(store, lone) == "1, 3"
    thread.join()


def meet_alone(store, world):
    with pytest.raises(NobodyCame) as caught:
        agree_on_store(store(), world, 0.5)
    return str(caught.value)
