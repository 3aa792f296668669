"""Models evaluated on data: metrics, predictions, and a network compared with what it was made from."""

from dlkit.core.evaluation.answers import Answer, has_shares, target_names
from dlkit.core.evaluation.calibration_error import (
    ConfidenceBin,
    calibration_error,
    confidence_bins,
    save_reliability_picture,
)
from dlkit.core.evaluation.comparison import (
    Agreement,
    Comparison,
    Costs,
    NamedNetwork,
    Original,
    Scores,
    Side,
    compare_networks,
    compare_predictions,
    read_original,
    weigh_network,
)
from dlkit.core.evaluation.comparison_text import (
    SPEED_COLUMNS,
    SPEED_LEGEND,
    comparison_rows,
    int8_sentences,
    pruning_sentences,
    quantization_sentences,
    speed_rows,
)
from dlkit.core.evaluation.evaluate import evaluate, nothing_counts
from dlkit.core.evaluation.file_size import CHUNK_BYTES, file_sizes
from dlkit.core.evaluation.gathering import Predictions
from dlkit.core.evaluation.intervals import map_intervals, metric_intervals, share_interval
from dlkit.core.evaluation.keeping import NUM_WORST, keep_evaluation
from dlkit.core.evaluation.maps import (
    MAP_HEADS,
    NOT_COUNTED,
    RIGHT,
    WRONG,
    MapPrediction,
    MapScores,
    MapViews,
    MaskWriter,
    Mosaic,
    PixelMetrics,
    SeenMap,
    class_colors,
    classes_seen,
    compare_maps,
    count_maps,
    look_at_maps,
    mask_writer,
    paint,
    predict_maps,
    save_map_sheet,
    seen_strip,
    strip_of,
)
from dlkit.core.evaluation.metrics import ranking_scores, score_predictions, score_split
from dlkit.core.evaluation.predict_images import ImagePrediction, predict_images, sample_images
from dlkit.core.evaluation.predict_rows import RowPredictions, predict_rows
from dlkit.core.evaluation.predictions import predict_split
from dlkit.core.evaluation.request import EvalRequest, check_outputs
from dlkit.core.evaluation.results import EvalResult, describe_results, most_confused
from dlkit.core.evaluation.run import run_evaluation, scoring_for
from dlkit.core.evaluation.temperature import fit_temperature, without_temperature
from dlkit.core.evaluation.thresholds import with_thresholds
from dlkit.core.evaluation.worst import (
    WorstSample,
    certain_mistakes,
    picture_of,
    pictures_of,
    save_worst_picture,
    worst_samples,
)
