"""predictions.npz of a run folder: what the exported model said of each sample that judged it. It is read without torch or pickle."""

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.choices import SplitName
from dlkit.errors import FileRefused
from dlkit.files import write_bytes
from dlkit.tasks import TASK_NAMES, TaskName

MOST_NUMBERS = (
    2**22
)  # probabilities, or numbers, that are kept: 16 MB; of more classes there are only two for each sample
_MOST_BYTES = 2**28
_FORMAT = {"format": "dlkit.predictions", "version": 1}
_KINDS = {"classification": "iu", "multilabel": "b", "regression": "f", "segmentation": "iu"}

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class PredictionFacts:
    """What predictions are of. `names` are those of classes, labels or targets; `samples` describes the data of the split by counts
    and hashes, so that two runs were judged by the same samples in the same order where it is equal.
    """

    task: TaskName
    split: SplitName
    names: tuple[str, ...]
    samples: Mapping[str, str | int]


@dataclass(frozen=True)
class KeptPredictions:
    """Predictions in the order of the split, without samples whose label the loss ignores.

    `positions` (N,) are those in the split, `numbers` (N,) those in the data set. `targets` and `predicted` are classes (N,), labels
    (N, L) as bools, numbers (N, K) in the units of the data, or of maps how many pixels of a picture are of each class (N, C), those of
    them that are `right` beside. `probabilities`, float32, are those of classes (N, C) or labels (N, L),
    None where they are too many, and for numbers. `confidence` and `likelihood` (N,) are the probabilities of the class that is
    predicted and of the true one; None but for classes.
    """

    facts: PredictionFacts
    positions: Array
    numbers: Array
    targets: Array
    predicted: Array
    probabilities: Array | None = None
    confidence: Array | None = None
    likelihood: Array | None = None
    right: Array | None = None


def save_predictions(path: Path, kept: KeptPredictions, *, most_numbers: int = MOST_NUMBERS) -> bool:
    """Write predictions as a compressed npz file, in one step; probabilities of classes or labels only where they are not too many.

    Returns False, and writes nothing, where the targets are more than `most_numbers`.
    """
    if kept.targets.size > most_numbers:
        return False
    if kept.probabilities is not None and kept.probabilities.size > most_numbers:
        kept = replace(kept, probabilities=None)
    facts = np.frombuffer(json.dumps(_FORMAT | asdict(kept.facts)).encode(), dtype=np.uint8)
    arrays = {name: value for name in _ARRAYS if (value := getattr(kept, name)) is not None}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, facts=facts, **arrays)
    write_bytes(path, buffer.getvalue())
    return True


def read_predictions(path: Path) -> KeptPredictions:
    """Returns what `save_predictions` wrote. Raises FileRefused for a file that cannot be read or is another."""
    with _refused(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
                raise ValueError(f"it holds more than {_MOST_BYTES} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            facts = _read_facts(arrays["facts"].tobytes())
            kept = KeptPredictions(facts, **{name: arrays[name] for name in _ARRAYS if name in arrays})
        _check(kept)
    return kept


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        raise FileRefused(path, f"cannot be read as predictions: {error}") from error


def _read_facts(text: bytes) -> PredictionFacts:
    found = json.loads(text)
    if not isinstance(found, dict) or any(found.pop(key, None) != value for key, value in _FORMAT.items()):
        raise ValueError(f"it is no {_FORMAT['format']} of version {_FORMAT['version']}")
    facts = PredictionFacts(**found | {"names": tuple(found["names"])})
    if (
        facts.task not in TASK_NAMES
        or not isinstance(facts.samples, dict)
        or not all(isinstance(name, str) for name in facts.names)
    ):
        raise ValueError("it does not say what the predictions are of")
    return facts


def _check(kept: KeptPredictions) -> None:
    """Raise ValueError where arrays are of other shapes or types than they must be."""
    size, kinds = len(kept.positions), _KINDS.get(kept.facts.task, "")
    if not (len(kept.numbers) == size and kept.targets.shape == kept.predicted.shape and len(kept.targets) == size):
        raise ValueError("its arrays are of different lengths")
    if kept.targets.dtype.kind not in kinds or kept.targets.ndim != (1 if kept.facts.task == "classification" else 2):
        raise ValueError(f"its targets are none of {kept.facts.task}")
    if (kept.right is None) != (kept.facts.task != "segmentation") or (
        kept.right is not None and (kept.right.dtype.kind not in kinds or kept.right.shape != kept.targets.shape)
    ):
        raise ValueError("it does not say which pixels are right")
    shares = (kept.probabilities, kept.confidence, kept.likelihood)
    if any(array is not None and (array.dtype != np.float32 or len(array) != size) for array in shares):
        raise ValueError("its probabilities do not belong to its samples")


_ARRAYS = tuple(part.name for part in fields(KeptPredictions) if part.name != "facts")
