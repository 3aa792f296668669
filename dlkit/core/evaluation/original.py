"""A network before it was pruned, as its pruned file remembers it: where every total starts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dlkit.core.evaluation.comparison import Scores


@dataclass(frozen=True)
class Original:
    """What a network cost and scored before it was first pruned. `data` names the data set of the scores.

    None, or no metrics, where it was not known.
    """

    num_parameters: int | None
    macs: int | None
    num_bytes: int
    data: str | None
    scores: Scores

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a model file."""
        return asdict(self)

    def accuracy_on(self, data: str | None, scores: Scores) -> float | None:
        """The accuracy, if it was measured on the same samples as these scores."""
        same = (self.scores.split, self.scores.num_samples) == (scores.split, scores.num_samples)
        return self.scores.metrics.get("accuracy") if same and data is not None and data == self.data else None


def read_original(provenance: Mapping[str, Any]) -> Original | None:
    """What a model file's provenance tells of it; None for a file that was not pruned, or tells nothing of use."""
    try:
        told = provenance["prune"]["original"]
        scores = Scores(
            str(told["scores"]["split"]),
            int(told["scores"]["num_samples"]),
            {str(name): float(value) for name, value in told["scores"]["metrics"].items()},
        )
        return Original(told["num_parameters"], told["macs"], int(told["num_bytes"]), told["data"], scores)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
