"""Models of maps, which say a class for each pixel: scored, shown and written, without keeping the maps of a whole split."""

from dlkit.core.evaluation.maps.comparison import compare_maps
from dlkit.core.evaluation.maps.mask_files import MaskWriter, mask_writer
from dlkit.core.evaluation.maps.palette import NOT_COUNTED, RIGHT, WRONG, class_colors, paint
from dlkit.core.evaluation.maps.prediction import MapPrediction, MapPredictor, predict_maps
from dlkit.core.evaluation.maps.scores import (
    MapScores,
    PixelMetrics,
    count_maps,
    count_pixels,
    metrics_per_pixel_class,
)
from dlkit.core.evaluation.maps.sheet import MAP_HEADS, classes_seen, save_map_sheet
from dlkit.core.evaluation.maps.strip import seen_strip, strip_of
from dlkit.core.evaluation.maps.views import MapViews, score_views
from dlkit.core.evaluation.maps.whole_scores import count_whole_maps
from dlkit.core.evaluation.maps.windows import Mosaic, pick_overlap
from dlkit.core.evaluation.maps.worst import SeenMap, describe_pictures, look_at_maps
