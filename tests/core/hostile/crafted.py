"""Files that were made to run code, to hang, to eat memory, or to end a command with an error of Python."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mutants import Path_, changed, commands_for, drop, places, put
from onnx_files import onnx_trials
from originals import CONFIG, Originals, read_original
from trials import Trial

# what every place of a model file and a checkpoint must bear
EVERYWHERE: tuple[Any, ...] = (None, "x", -1, 2**70, [], {"x": 1}, "\ud800")
NAMED = "builtins:int", "os:system", "posix:system", "./evil.py:Net", "builtins:eval", "torch:load"


class _Runs:
    """Unpickling it calls a function; the canary tells."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def crafted(originals: Originals, canary: Path) -> list[Trial]:
    """All crafted files."""
    return [
        *_wrong_values(originals),
        *_code(originals, canary),
        *_containers(originals),
        *_sizes(originals),
        *_archives(originals),
        *_raw_pickles(),
        *_safetensors(originals),
        *_data_sections(originals),
        *_configs(originals),
        *_names(originals),
        *_array_sections(originals),
        *onnx_trials(originals),
    ]


def _trial(name: str, kind: str, originals: Originals, write: Callable[[Path], None], ending: str = ".pt") -> Trial:
    return Trial(f"{kind}: {name}", ending, write, commands_for(kind, originals))


def _wrong_values(originals: Originals) -> Iterator[Trial]:
    """Every key of every kind taken away, or with a value that it never has."""
    for kind in originals.kinds:
        value = read_original(originals.path(kind))
        for at in places(value):
            for words, change in [("without", drop), *((f"{wrong!r:.12}", put(wrong)) for wrong in EVERYWHERE)]:
                if (
                    words != "without"
                    and (len(at) > 4 or kind in ("packed", "pruned", "int8", "weights"))
                    and words[:2] != "-1"
                ):
                    continue

                def write(path: Path, value: Any = value, at: Path_ = at, change: Any = change) -> None:
                    torch.save(changed(value, at, change), path)

                yield _trial(f"{'.'.join(map(str, at))} {words}", kind, originals, write)


def _saves(change: Callable[[dict[str, Any]], Any], source: Path) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        value = dict(read_original(source))
        torch.save(change(value) or value, path)

    return write


def _code(originals: Originals, canary: Path) -> Iterator[Trial]:
    """Pickles that run code, and names of code where a file may hold only names of the registry."""
    calls = {
        "os.mkdir": _Runs(os.mkdir, str(canary)),
        "os.system": _Runs(os.system, f"mkdir {canary}"),
        "eval": _Runs(eval, f"__import__('os').mkdir({str(canary)!r})"),
        "exec": _Runs(exec, f"import os; os.mkdir({str(canary)!r})"),
        "open": _Runs(open, str(canary), "w"),
        "getattr": _Runs(getattr, "os", "upper"),
    }
    for name, call in calls.items():
        for kind in ("model", "checkpoint", "weights"):
            key = "spec" if kind != "weights" else "extra"
            yield _trial(
                f"code by {name}",
                kind,
                originals,
                _saves(lambda value, k=key, c=call: value | {k: c}, originals.path(kind)),
            )
        yield _trial(
            f"raw pickle, {name}", "legacy", originals, lambda path, c=call: path.write_bytes(pickle.dumps(c)) and None
        )
    for kind in ("model", "checkpoint"):
        for name in NAMED:
            for at in (
                ("spec", "arch", "name"),
                ("spec", "config", "data", "name"),
                ("spec", "config", "model", "name"),
                ("spec", "data", "name"),
            ):
                yield _trial(
                    f"{'.'.join(at)} names {name}",
                    kind,
                    originals,
                    _saves(lambda value, a=at, n=name: changed(value, a, put(n)), originals.path(kind)),
                )
            user = {"registry": "user", "name": name, "options": {}}
            yield _trial(
                f"a user's class {name}",
                kind,
                originals,
                _saves(lambda value, u=user: changed(value, ("spec", "arch"), put(u)), originals.path(kind)),
            )
    yield _trial(
        "TorchScript", "weights", originals, lambda path: torch.jit.save(torch.jit.script(torch.nn.ReLU()), path)
    )
    yield _trial("a whole module", "weights", originals, lambda path: torch.save(torch.nn.Linear(2, 2), path))


def _containers(originals: Originals) -> Iterator[Trial]:
    """Lists and mappings that hold themselves, stand in many places, or lie in each other a thousand deep."""

    def cyclic_list() -> Any:
        value: list[Any] = []
        value.append(value)
        return value

    def cyclic_dict() -> Any:
        value: dict[str, Any] = {}
        value["x"] = {"y": [value]}
        return value

    def shared(width: int, depth: int) -> Any:
        value: Any = ["x"]
        for _ in range(depth):
            value = [value] * width
        return value

    def deep(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = [value]
        return value

    made = {
        "a list in itself": cyclic_list,
        "a mapping in itself": cyclic_dict,
        "two to the 30 by sharing": lambda: shared(2, 30),
        "ten to the 20 by sharing": lambda: shared(10, 20),
        "shared mappings": lambda: {"x": shared(2, 40)},
        "200 deep": lambda: deep(200),
        "65 deep": lambda: deep(65),
        "a long text": lambda: "x" * 2_500_000,
        "a long whole number": lambda: 1 << 40_000,
        "a name of 2 MB": lambda: {"k" * 2_000_000: 1},
        "bytes": lambda: b"x",
        "a complex number": lambda: 1j,
        "a set": lambda: {1, 2},
        "100,000 numbers": lambda: list(range(100_000)),
    }
    for kind in ("model", "checkpoint", "weights"):
        for name, make in made.items():
            spots = (
                [("extra",)]
                if kind == "weights"
                else [("extra",), ("spec", "config", "x"), ("spec", "arch", "options", "x"), ("spec", "transforms")]
            )
            for at in spots:
                yield _trial(
                    f"{name} at {'.'.join(at)}",
                    kind,
                    originals,
                    _saves(lambda value, a=at, m=make: changed(value, a, put(m())), originals.path(kind)),
                )


def _sizes(originals: Originals) -> Iterator[Trial]:
    """Networks, inputs and tensors that are far larger than the file."""

    def arch(registry: str, name: str, **options: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda value: changed(
            value, ("spec", "arch"), put({"registry": registry, "name": name, "options": options})
        )

    relus, size = ["relu"] * 200_000, [1, 8, 8]
    repeated = [{"repeat": 1000, "layers": [{"repeat": 1000, "layers": ["relu"]}]}]
    nested: Any = ["relu"]
    for _ in range(25):
        nested = [{"repeat": 2, "layers": nested}]
    big = {
        "60 million classes": arch("dlkit", "mlp", input_size=size, num_classes=60_000_000, hidden=[16]),
        "10^12 classes": arch("dlkit", "mlp", input_size=size, num_classes=10**12, hidden=[16]),
        "100,000 hidden layers": arch("dlkit", "mlp", input_size=size, num_classes=4, hidden=[1] * 100_000),
        "wide layers": arch("dlkit", "mlp", input_size=size, num_classes=4, hidden=[65536] * 50),
        "200,000 layers": arch("dlkit", "layers", input_size=size, num_classes=4, layers=relus),
        "repeats of repeats": arch("dlkit", "layers", input_size=size, num_classes=4, layers=repeated),
        "2^25 by repeats": arch("dlkit", "layers", input_size=size, num_classes=4, layers=nested),
        "a repeat of 10^9": arch(
            "dlkit", "layers", input_size=size, num_classes=4, layers=[{"repeat": 10**9, "layers": ["relu"]}]
        ),
        "a huge convolution": arch(
            "dlkit", "layers", input_size=size, num_classes=4, layers=[{"conv": {"out": 10**9, "kernel": 3}}]
        ),
        "a wide recurrent": arch("dlkit", "lstm", input_size=size, num_classes=4, hidden_size=16384, num_layers=64),
        "a large vision network": arch("torchvision", "vit_h_14", num_classes=4, in_channels=3, image_size=224),
        "a large vision image": arch("torchvision", "vit_b_16", num_classes=4, in_channels=3, image_size=16 * 4000),
        "many channels": arch("torchvision", "resnet18", num_classes=4, in_channels=10**9),
        "size 1x50000x50000": lambda value: changed(value, ("spec", "input", "input_size"), put([1, 50_000, 50_000])),
        "size of 40 dimensions": lambda value: changed(value, ("spec", "input", "input_size"), put([2] * 40)),
        "10^9 outputs": lambda value: changed(value, ("spec", "input", "num_outputs"), put(10**9)),
    }
    cut = [{"op": "prune", "sizes": {}, "parameters": {}}]
    for name, change in big.items():
        yield _trial(name, "model", originals, _saves(change, originals.path("model")))
        yield _trial(
            f"{name}, said to be pruned",
            "model",
            originals,
            _saves(
                lambda value, c=change: changed(c(value), ("spec", "transforms"), put(cut)), originals.path("model")
            ),
        )
    yield from _many_tensors(originals)


def _many_tensors(originals: Originals) -> Iterator[Trial]:
    base = torch.zeros(250_000)
    tensors: dict[str, Callable[[], Any]] = {
        "a stride of 0": lambda: {"x": torch.zeros(1).expand(10**9)},
        "1,000 views of one storage": lambda: {str(i): base[i:] for i in range(1_000)},
        "30,000 views": lambda: {str(i): base[: 1 + i % 7] for i in range(30_000)},
        "a sparse tensor": lambda: {"x": torch.zeros(3, 3).to_sparse()},
        "a meta tensor": lambda: {"x": torch.zeros(3, device="meta")},
        "60,001 tensors of one": lambda: {str(i): base[0] for i in range(60_001)},
        "a name of a line": lambda: {"a\nb\x1b[31m": base},
        "no names": lambda: {1: base},
        "complex numbers": lambda: {"x": torch.zeros(3, dtype=torch.complex64)},
    }
    for name, make in tensors.items():
        yield _trial(name, "weights", originals, lambda path, m=make: torch.save(m(), path))
        yield _trial(
            name, "model", originals, _saves(lambda value, m=make: value | {"state_dict": m()}, originals.path("model"))
        )
        yield _trial(
            name,
            "checkpoint",
            originals,
            _saves(lambda value, m=make: value | {"state_dict": m()}, originals.path("checkpoint")),
        )
    bitmap = torch.full((2**20,), 0, dtype=torch.uint8)
    for count in (1, 20, 2000):
        blocks = [{"shapes": {f"{i}": [2**23]}, "bitmap": bitmap, "values": torch.zeros(0)} for i in range(count)]
        sparse = {"order": [str(i) for i in range(count)], "packed": blocks, "tied": {}}
        yield _trial(
            f"{count} blocks of one bitmap",
            "model",
            originals,
            _saves(lambda value, s=sparse: value | {"version": 2, "sparse": s}, originals.path("model")),
        )


def _archives(originals: Originals) -> Iterator[Trial]:
    """Zip files that `torch.save` would not write, and files that are cut or empty."""
    for kind in ("model", "checkpoint", "weights"):
        data = originals.path(kind).read_bytes()
        for share in (0, 1, 4, 30, len(data) // 2, len(data) - 1, len(data) - 22):
            yield _trial(
                f"cut after {share} bytes", kind, originals, lambda path, d=data[:share]: path.write_bytes(d) and None
            )
        for name, change in _MEMBERS.items():
            yield _trial(
                f"zip: {name}",
                kind,
                originals,
                lambda path, d=data, c=change: path.write_bytes(_rezipped(d, c)) and None,
            )
        yield _trial(
            "with bytes behind it", kind, originals, lambda path, d=data: path.write_bytes(d + b"x" * 100) and None
        )
        yield _trial(
            "with bytes before it", kind, originals, lambda path, d=data: path.write_bytes(b"x" * 100 + d) and None
        )


def _rezipped(data: bytes, change: Callable[[dict[str, bytes]], dict[str, bytes] | int]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    found = change(members)
    buffer = io.BytesIO()
    method = found if isinstance(found, int) else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, text in (members if isinstance(found, int) else found).items():
            archive.writestr(name, text)
    return buffer.getvalue()


def _with_pickle(make: Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda members: {name: make(text) if name.endswith("data.pkl") else text for name, text in members.items()}


_MEMBERS: dict[str, Callable[[dict[str, bytes]], Any]] = {
    "compressed": lambda members: zipfile.ZIP_DEFLATED,
    "bzip2": lambda members: zipfile.ZIP_BZIP2,
    "empty": lambda members: {},
    "two folders": lambda members: members | {"other/x": b"x"},
    "a path that climbs": lambda members: members | {"../../x": b"x"},
    "an absolute path": lambda members: members | {"/x": b"x"},
    "TorchScript's members": lambda members: members | {next(iter(members)).split("/")[0] + "/constants.pkl": b"x"},
    "code": lambda members: members | {next(iter(members)).split("/")[0] + "/code/x.py": b"x"},
    "a bomb of zeros": lambda members: members | {next(iter(members)).split("/")[0] + "/bomb": bytes(3_000_000)},
    "70,000 members": lambda members: (
        members | {next(iter(members)).split("/")[0] + f"/{i}": b"" for i in range(70_000)}
    ),
    "no storages": lambda members: {name: text for name, text in members.items() if "/data/" not in name},
    "short storages": lambda members: {name: text[:5] if "/data/" in name else text for name, text in members.items()},
    "another byte order": lambda members: {
        name: b"big" if name.endswith("byteorder") else text for name, text in members.items()
    },
    "an odd byte order": lambda members: {
        name: b"odd" if name.endswith("byteorder") else text for name, text in members.items()
    },
    "no version": lambda members: {name: text for name, text in members.items() if not name.endswith("version")},
    "an empty pickle": _with_pickle(lambda text: b""),
    "a cut pickle": _with_pickle(lambda text: text[: len(text) // 2]),
    "a long pickle": _with_pickle(lambda text: b"\x80\x02" + b"]0" * 2_000_000 + text[2:]),
    "a pickle of the longest length": _with_pickle(lambda text: b"\x80\x02(" + b"]" * (3 * 2**20 - 10) + b"t."),
    "a deep pickle": _with_pickle(lambda text: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "a text of 4 GB": _with_pickle(lambda text: b"\x80\x02X\xff\xff\xff\xffx."),
    "bytes that claim much": _with_pickle(lambda text: b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0fx."),
    "a memo far away": _with_pickle(lambda text: b"\x80\x02Nr\xff\xff\xff\x7f."),
    "a global": _with_pickle(lambda text: b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85R."),
    "a stack global": _with_pickle(lambda text: b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R."),
    "an instance": _with_pickle(lambda text: b"\x80\x02(ios\nsystem\n."),
    "a persistent id": _with_pickle(lambda text: b"\x80\x02X\x01\x00\x00\x00xQ."),
    "an ordered mapping of anything": _with_pickle(
        lambda text: b"\x80\x02ccollections\nOrderedDict\n)R}X\x04\x00\x00\x00keysX\x01\x00\x00\x00xsb."
    ),
    "a tensor class": _with_pickle(lambda text: b"\x80\x02ctorch\nTensor\n."),
    "a size of texts": _with_pickle(lambda text: b"\x80\x02ctorch\nSize\n(X\x01\x00\x00\x00xt\x85R."),
}


def _raw_pickles() -> Iterator[Trial]:
    """Files of the format from before torch 1.6, and files that are something else."""
    read = (("inspect", "{file}"), ("convert", "{file}", "{out}.pt", "--force"))
    header = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2) + pickle.dumps(1001, 2)
    info = pickle.dumps(
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}, 2
    )
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuNUMBERNtQ"
    tensor = b"\x80\x02ctorch._utils\n_rebuild_tensor\n(" + storage + b"K\x00K\x02\x85K\x01\x85tR."
    for name, text in {
        "nothing": b"",
        "a line": b"hello",
        "a zip's head": b"PK\x03\x04",
        "an html page": b"<!DOCTYPE html><html>",
        "a gzip": b"\x1f\x8b" + bytes(50),
        "one byte of a pickle": b"\x80",
        "a pickle's end": b"\x80\x02.",
        "a list": pickle.dumps([1]),
        "numbers": pickle.dumps(list(range(1000))),
        "a header": header,
        "a header of rubbish": header + os.urandom(100),
        "no storages": header + info + pickle.dumps(OrderedDict()),
        "10^12 numbers": header
        + info
        + tensor.replace(b"NUMBER", b"\x8a\x08" + struct.pack("<q", 10**12))
        + pickle.dumps(["0"], 2)
        + struct.pack("<q", 10**12),
        "2 GB of numbers": header
        + info
        + tensor.replace(b"NUMBER", b"\x8a\x08" + struct.pack("<q", 2**29))
        + pickle.dumps(["0"], 2)
        + struct.pack("<q", 2**29),
        "numbers below 0": header
        + info
        + tensor.replace(b"NUMBER", b"J" + struct.pack("<i", -5))
        + pickle.dumps(["0"], 2)
        + struct.pack("<q", 4),
        "a storage that is not there": header + info + tensor.replace(b"NUMBER", b"K\x02") + pickle.dumps([], 2),
        "a key that is not there": header
        + info
        + tensor.replace(b"NUMBER", b"K\x02")
        + pickle.dumps(["7"], 2)
        + struct.pack("<q", 2),
        "a tar": b"storages" + bytes(504) + b"x" * 512,
    }.items():
        for ending in (".pt", ".pth", ".safetensors", ".bin"):
            yield Trial(f"raw{ending}: {name}", ending, lambda path, t=text: path.write_bytes(t) and None, read)


def _safetensors(originals: Originals) -> Iterator[Trial]:
    """Headers of safetensors that lie."""
    commands = commands_for("safetensors", originals)
    good = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    headers: dict[str, Any] = {
        "no header": b"",
        "a header of 2^60": struct.pack("<Q", 2**60),
        "a header of 0": struct.pack("<Q", 0),
        "not JSON": b"x" * 40,
        "a list": [],
        "a number": 1,
        "no tensors": {},
        "a hole": {"x": good | {"data_offsets": [4, 12]}},
        "overlap": {"x": good, "y": good},
        "an odd shape": {"x": good | {"shape": [-1]}},
        "a huge shape": {"x": good | {"shape": [2**62, 2**62]}},
        "an odd dtype": {"x": good | {"dtype": "F7"}},
        "offsets beyond": {"x": good | {"data_offsets": [0, 2**40]}},
        "offsets turned": {"x": good | {"data_offsets": [8, 0]}},
        "no offsets": {"x": {"dtype": "F32", "shape": [2]}},
        "metadata of numbers": {"__metadata__": {"a": 1}, "x": good},
        "metadata that ties": {"__metadata__": {"y": "x", "z": "y", "x": "x"}, "x": good},
        "a long name": {"k" * 1_000_000: good},
        "an empty name": {"": good},
        "200,000 empty tensors": {str(i): good | {"shape": [0], "data_offsets": [0, 0]} for i in range(200_000)},
        "deep JSON": b"[" * 200_000,
        "a half of a pair": json.dumps({"\ud800": good}).encode(),
        "eight-bit floats": {"x": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}},
        "200,000 tied names": {"__metadata__": {str(i): "x" for i in range(200_000)}, "x": good},
    }

    def write(path: Path, header: Any) -> None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        raw = isinstance(header, bytes) and len(header) in (0, 8)
        path.write_bytes(text if raw else struct.pack("<Q", len(text)) + text + bytes(8))

    for name, header in headers.items():
        yield Trial(f"safetensors: {name}", ".safetensors", lambda path, h=header: write(path, h), commands)


def _data_sections(originals: Originals) -> Iterator[Trial]:
    """Model files whose own data section names what a file may not make anybody read."""
    fifo = originals.folder / "fifo"
    if not fifo.exists():
        os.mkfifo(fifo)
    for name in (
        "csv",
        "table",
        "imagefolder",
        "images",
        "fake",
        "FakeData",
        "MNIST",
        "FashionMNIST",
        "CIFAR10",
        "digits",
        "./evil.py:Data",
        "builtins:int",
    ):
        for path in (
            "/etc/passwd",
            "/dev/zero",
            "/dev/urandom",
            "/dev/stdin",
            str(fifo),
            "/proc/self/mem",
            "/",
            "/nowhere",
            "x" * 300,
            "\0",
        ):
            of_images = {"image": "file", "target": "label"} if name == "images" else {}
            has_path = name in ("csv", "table", "imagefolder", "images")
            section = {"name": name, "path" if has_path else "root": path, **of_images}
            yield _with_data(f"{name} of {path[:20]!r}", section, originals)
    yield from _tables_of_images(originals)
    for options in (
        {"num_samples": 10**10},
        {"num_samples": 10**6, "shape": [3, 1000, 1000]},
        {"shape": [1, 10**6, 10**6]},
        {"num_classes": 10**10},
        {"size": 10**10},
        {"num_samples": -1},
        {"num_samples": "x"},
        {"shape": []},
        {"noise": 1e308},
        {"noise": float("nan")},
    ):
        yield _with_data(f"fake {options}", {"name": "fake", **options}, originals)
    for key, wrong in {
        "batch_size": 10**12,
        "eval_batch_size": 10**12,
        "num_workers": 10**6,
        "limit": 10**12,
        "val": 0.999999,
        "image_size": 10**6,
        "transforms": [{"name": "os:system"}],
        "eval_transforms": [{"name": "Resize", "size": 10**6}],
        "download": True,
        "prefetch_factor": 10**9,
        "root": "/dev/zero",
        "normalize": {"mean": [0.5] * 100_000, "std": [0.5] * 100_000},
        "batch_transforms": [{"name": "x"}] * 1000,
    }.items():
        yield _with_data(
            f"{key} {wrong!r:.20}",
            {"name": "fake", "num_samples": 64, "shape": [1, 8, 8], "num_classes": 4, key: wrong},
            originals,
        )


def _array_sections(originals: Originals) -> Iterator[Trial]:
    """Arrays, folders of arrays and data sets of Hugging Face that a file may not make anybody read."""
    for path in (
        "/etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        str(originals.folder / "fifo"),
        "/",
        "/etc",
        "/nowhere",
        "x" * 300,
        "\0",
    ):
        for name in ("npz", "npy", "hf"):
            yield _with_data(f"{name} of {path[:20]!r}", {"name": name, "path": path}, originals)
        yield _with_data(f"hf:{path[:20]!r}", {"name": f"hf:{path}"}, originals)
    for section in (
        {"name": "hf", "path": "user/set"},
        {"name": "hf:user/set"},
        {"name": "hf", "path": "user/set", "revision": "x"},
    ):
        yield _with_data(f"hf that would be fetched {section}", section, originals)


def _tables_of_images(originals: Originals) -> Iterator[Trial]:
    """Model files that say how the table that somebody predicts is to be read."""
    table = originals.folder / "pictures.csv"
    table.write_text("file,label\n/dev/zero,a\n/etc/passwd,b\n")
    section = {"name": "images", "path": "/nowhere", "image": "file", "target": "label"}
    for key, wrong in (
        ("image", ["file"]),
        ("image", {"x": 1}),
        ("image", "nothing"),
        ("root", "/dev/zero"),
        ("root", 5),
        ("on_bad", "skip"),
        ("delimiter", []),
        ("delimiter", "x" * 10**6),
        ("decimal", {}),
        ("thousands", ["x"]),
        ("mode", "x"),
    ):
        command = ("predict", "{file}", str(table))
        yield _with_data(f"images {key} {wrong!r:.20}", {**section, key: wrong}, originals, command)


def _with_data(
    name: str, section: dict[str, Any], originals: Originals, command: tuple[str, ...] = ("eval", "{file}", "--json")
) -> Trial:
    def change(value: dict[str, Any]) -> Any:
        return changed(changed(value, ("spec", "config", "data"), put(section)), ("spec", "data"), put(section))

    return Trial(f"data section: {name}", ".pt", _saves(change, originals.path("model")), (command,))


def _configs(originals: Originals) -> Iterator[Trial]:
    """Configs that ask for what is senseless, in the words of the config language and in others."""
    commands = commands_for("config", originals)
    lines = {
        "optimizer.lr": ("1e38", "1e-320", ".inf", ".nan", "-1", "1e400", "x"),
        "optimizer.name": NAMED,
        "model.name": (*NAMED, "vit_h_14", "x" * 300),
        "data.name": (*NAMED, "csv", "x" * 300),
        "loss.name": NAMED,
        "schedule.name": NAMED,
        "data.root": ("x" * 300, "'\\0'", '"\\ud800"', "/dev/null"),
        "runtime.out": ("x" * 300, '"\\ud800"', "/dev/null", "/proc/x", '"\\0"'),
        "model.weights": (
            "/dev/zero",
            "/etc/passwd",
            "x" * 300,
            "/",
            str(originals.folder / "fifo"),
            '"\\ud800"',
            '"\\0"',
        ),
        "model.hidden": ("[0]", "[1e9]", "[99999999999]", "{}", "x", "[[1]]"),
        "data.batch_size": ("0", "10000000000000", "-1"),
        "seed": ("-1", "99999999999999999999", "1.5"),
        "name": ("x" * 300, "../x", '"\\ud800"', "''", ".", ".."),
        "train.clip": ("{norm: 1e-300}", "{norm: 1e300}", "{}"),
        "ema.decay": ("1", "0", "1e-300"),
        "data.val": ("0.999999", "1e-300", "test", "1"),
        "data.normalize": ("{mean: [0.1, 0.2], std: [1]}", "{mean: [1e308], std: [1e-308]}"),
        "data.transforms": ("[builtins:int]", "[{name: Resize, size: 0}]", "x", "[[]]", "[{}]", "[RandomCrop]"),
        "checkpoint.metric": ("x", '"\\ud800"'),
        "loss.class_weights": ("[0, 0, 0, 0]", "[1]", "[1e38, 1e38, 1e38, 1e38]"),
        "schedule.warmup": ("200%", "1e9st", "-1", "99999999999999999999ep"),
        "train.epochs": ("0", "1e9", "99999999999999999999999"),
        "train.accumulate": ("100000000000",),
        "optimizer.betas": ("[2, 2]", "x", "[0.9]"),
        "optimizer.weight_decay": ("1e38", "-1", ".nan"),
        "runtime.device": ("cuda:99", "x", "meta", "mps"),
        "runtime.threads": ("1000000000",),
        "extends": ("/dev/null", "x" * 300, "/etc/passwd", "'\\0'"),
        "model.num_classes": ("1", "1000000000000"),
        "train.max_time": ("1e-9", "x", "99999999999999999999h"),
        "log.images": ("100000000000",),
        "log.every": ("100000000000",),
    }
    for key, wrong in lines.items():
        for text in wrong:
            yield _config(f"{key}: {text[:20]}", _with_line(key, text), commands)
    for name, text in {
        "nothing": "",
        "a list": "- 1",
        "a bomb": "a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]",
        "deep": "[" * 5000,
        "deeper maps": "{a: " * 2000,
        "a tag": "a: !!python/object/apply:os.system [x]",
        "a tag of ours": "!x {a: 1}",
        "a long line": "a: " + "x" * 1_000_000,
        "many keys": "\n".join(f"k{i}: 1" for i in range(50_000)),
        "a zero": "a: \0",
        "a mark": "\ufeffdata: x",
        "two documents": "a: 1\n---\nb: 2",
        "a long key": f"? {'k' * 5000}\n: 1",
        "numbers": "1: 2",
        "a null key": "~: 1",
        "merge": "<<: {a: 1}",
        "a date": "data: 2020-01-01",
        "binary": "data: !!binary aGk=",
    }.items():
        yield _config(name, text, commands)
    yield Trial(
        "config: not UTF-8",
        ".yaml",
        lambda path: path.write_bytes(b"data: \xff\xfe\n") and None,
        commands,
        frozenset({6}),
    )


def _names(originals: Originals) -> Iterator[Trial]:
    """Sound files under odd names, and outputs under such names, of every command that reads or writes one."""
    config, model, weights = (str(originals.path(kind)) for kind in ("config", "model", "weights"))
    odd = {
        "300 characters": "x" * 300,
        "not UTF-8": "a\udcff",
        "a line break": "a\nb",
        "markup": "[red]x[/]",
        "a blank": " ",
    }
    places = "{folder}/NAME.pt", "{folder}/NAME/x.pt", "/dev/full", "/dev/null", "/proc/self/x.pt", "{folder}"
    for words, name in odd.items():
        for place in places:
            path = place.replace("NAME", name.replace("{", ""))
            commands = (
                ("inspect", path),
                ("eval", path, "--json"),
                ("predict", model, path),
                ("convert", weights, path, "--force"),
                ("convert", path, "{out}.pt", "--force"),
                ("export", model, "--format", "state-dict", "-o", path, "--force"),
                ("prune", model, "--amount", "50%", "--plan", "-o", path),
                ("config", "check", path),
                ("config", "schema", "-o", path),
                (
                    "lr-plot",
                    "cosine",
                    "--lr",
                    "0.1",
                    "--epochs",
                    "2",
                    "--steps-per-epoch",
                    "5",
                    "-o",
                    path.replace(".pt", ".csv"),
                ),
                ("train", config, "--resume", path, "--quiet"),
                ("train", config, f"model.weights={path}", "--quiet", "--out", "{out}"),
            )
            for command in commands:
                # outputs may go where there is no room
                yield Trial(f"name: {words} at {place}, {command[0]}", ".pt", _nothing, (command,), frozenset({6}))


def _nothing(path: Path) -> None:
    path.write_bytes(b"")


def _config(name: str, text: str, commands: tuple[tuple[str, ...], ...]) -> Trial:
    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    return Trial(f"config: {name}", ".yaml", write, commands, frozenset({6}))


def _with_line(key: str, text: str) -> str:
    """The sound config with one key set."""
    import yaml

    found = yaml.safe_load(CONFIG)
    section, _, name = key.rpartition(".")
    target = found.setdefault(section, {}) if section else found
    if section == "model" and name == "name":
        target.clear()
    target[name] = "VALUE"
    return yaml.safe_dump(found).replace("VALUE", text)
