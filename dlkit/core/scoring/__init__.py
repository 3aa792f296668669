"""How outputs are scored: losses, running sums of metrics, and the precision in which both are computed."""

from dlkit.core.scoring.losses import WeightedLoss, build_loss
from dlkit.core.scoring.precision import Precision, has_native_bf16, pick_precision
from dlkit.core.scoring.scoring import Scoring
