"""How outputs are scored: losses, running sums of metrics, and the precision in which both are computed."""

from dlkit.core.scoring.label_scores import (
    MIDDLE,
    areas_under_roc,
    average_precisions,
    decide_labels,
    f1_of,
    label_counts,
    pick_thresholds,
)
from dlkit.core.scoring.losses import WeightedLoss, build_loss
from dlkit.core.scoring.map_scores import areas_of, class_areas, dice_of, iou_of, map_metrics, pixel_counts
from dlkit.core.scoring.precision import Precision, has_native_bf16, pick_precision
from dlkit.core.scoring.scoring import Scoring
from dlkit.core.scoring.task_scores import SCORES, Regression, TaskScores
