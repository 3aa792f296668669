"""A small simulated file system: what a disk may hold when the power fails, where nothing but what was synced is certain."""

import itertools
import zlib
from pathlib import Path

import pytest

from dlkit import disk
from dlkit.core.training.folder import read_resumed
from dlkit.errors import DlkitError


def recorded(monkeypatch, train):
    """The calls of a run that change the disk, with their data."""
    log = []
    real = {
        name: getattr(disk, name)
        for name in ("create", "append", "write", "sync", "replace", "link", "remove", "sync_folder")
    }

    def wrapped(name):
        def call(*arguments):
            result = real[name](*arguments)
            named = [Path(item.name) if hasattr(item, "fileno") else item for item in arguments]
            log.append((name, *(bytes(item) if isinstance(item, memoryview) else item for item in named)))
            return result

        return call

    for name in real:
        monkeypatch.setattr(disk, name, wrapped(name))
    train()
    monkeypatch.undo()
    return log


class Power:
    """Files as numbers with what is synced of them and what is not; names as synced, and changes of names that wait."""

    def __init__(self):
        self.synced, self.written, self.now, self.names, self.waiting = {}, {}, {}, {}, []
        self.opened = {}  # by the name under which a file was opened

    def take(self, call):
        name, *rest = call
        if name in ("create", "append"):
            path = rest[0]
            if path not in self.now:
                number = len(self.synced)
                self.synced[number], self.written[number] = b"", b""
                self.change(("set", path, number))
            self.opened[path] = self.now[path]
        elif name == "write":
            self.written[self.opened[rest[0]]] += rest[1]
        elif name == "sync":
            number = self.opened[rest[0]]
            self.synced[number] = self.written[number]
        elif name == "replace":
            self.change(("move", rest[0], rest[1]))
        elif name == "link":
            self.change(("set", rest[1], self.now[rest[0]]))
        elif name == "remove" and rest[0] in self.now:
            self.change(("drop", rest[0]))
        elif name == "sync_folder":
            done = [change for change in self.waiting if change[1].parent == rest[0]]
            self.names = applied(self.names, done)
            self.waiting = [change for change in self.waiting if change not in done]

    def change(self, change):
        self.now = applied(self.now, [change])
        self.waiting.append(change)

    def states(self):
        """What may be on the disk: changes of names come up to a point, or all but one, or none; unsynced bytes come, are lost, or
        come in part.
        """
        waiting = self.waiting
        orders = [waiting[:count] for count in range(len(waiting) + 1)]
        orders += [[other for other in waiting if other is not left] for left in waiting]
        for order, share in itertools.product(orders, (1.0, 0.5, 0.0)):
            names = applied(self.names, order)
            yield {path: self.content(number, share) for path, number in names.items()}

    def content(self, number, share):
        synced, written = self.synced[number], self.written[number]
        return synced + written[len(synced) :][: int(share * (len(written) - len(synced)))]


def applied(names, changes):
    names = dict(names)
    for kind, path, *rest in changes:
        if kind == "set":
            names[path] = rest[0]
        elif kind == "move" and path in names:
            names[rest[0]] = names.pop(path)
        elif kind == "drop":
            names.pop(path, None)
    return names


def fault(state, folder, place, least_step):
    """What is wrong with a state of the disk, if anything; `least_step` is that of the newest checkpoint that was promised."""
    for path in (*place.glob("*.*"), *place.glob("checkpoints/*")):
        if path.is_file() and path.name != ".lock":
            path.unlink()
    for path, content in state.items():
        target = place / path.relative_to(folder)
        target.write_bytes(content)
    try:
        found = read_resumed(place)
    except DlkitError as error:
        return str(error)
    if found is None:
        return "no checkpoint" if least_step else None
    if found.state["position"]["step"] < least_step:
        return "an older checkpoint"
    if found.best is None and found.state["best"]["value"] is not None:
        return "no best weights"
    for name, mark in found.state["metrics_files"].items():
        files = [place / name, place / f"{name}.next"]
        contents = [path.read_bytes()[: mark["size"]] for path in files if path.exists()] or [b""]
        if all(zlib.crc32(content) != mark["crc32"] for content in contents):
            return f"{name} has lost lines"
    return None


def bad_states(log, folder, place, *, is_synced):
    """All states that may follow from each call; without syncing it is as if the calls for it did nothing."""
    power, seen, bad, tried, promised = Power(), set(), [], 0, 0
    (place / "checkpoints").mkdir(parents=True)
    (place / ".lock").touch()
    steps = 0
    for call in log:
        if is_synced or call[0] not in ("sync", "sync_folder"):
            power.take(call)
        if call[0] == "replace" and call[2].name == "last.pt":
            steps += 2
        elif call[0] == "sync_folder" and call[1].name == "checkpoints" and steps:
            promised = max(promised, 2 if steps else 0)
        for state in power.states():
            key = (promised, tuple(sorted((str(path), zlib.crc32(content)) for path, content in state.items())))
            if key in seen:
                continue
            seen.add(key)
            tried += 1
            if words := fault(state, folder, place, promised):
                bad.append((call[0], words))
    return tried, bad


@pytest.mark.slow
def test_power_loss_at_every_call(crash, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    log = recorded(monkeypatch, lambda: crash.train(folder))
    log = [
        call
        for call in log
        if any((isinstance(item, Path) and folder in item.parents) or item == folder for item in call)
    ]
    log = [
        call
        for call in log
        if not any(isinstance(item, Path) and item.name in ("train.log", "model.pt") for item in call)
    ]
    tried, bad = bad_states(log, folder, tmp_path / "synced", is_synced=True)
    tried_without, bad_without = bad_states(log, folder, tmp_path / "unsynced", is_synced=False)
    print(f"\npower loss: {len(bad)} bad of {tried} states; with fsync taken out {len(bad_without)} of {tried_without}")
    assert tried > 90 and not bad
    assert bad_without
