"""Data sets, their splits, the in-memory store, augmentation and loaders."""

from dlkit.core.data.augment import batched_version
from dlkit.core.data.batching import BatchPlan, Finish, SharedBatches, SharedTurns
from dlkit.core.data.build import build_data, load_data, measure_data
from dlkit.core.data.caching import MemorySplit, StoredSamples
from dlkit.core.data.calibration import draw_calibration
from dlkit.core.data.class_shares import class_shares
from dlkit.core.data.contract import (
    LARGEST_SAMPLE,
    TEMPERATURES,
    Batch,
    DataInfo,
    DataSplits,
    ImageFit,
    PublishedInput,
    Split,
    TableColumn,
)
from dlkit.core.data.counter_rng import Draws, Stream, hash_indices, hash_key, integers, permutation
from dlkit.core.data.eval_splits import NoSplit, build_eval_split, build_eval_transform, open_eval_subset
from dlkit.core.data.fingerprint import Fingerprint, fingerprint, fingerprint_differences
from dlkit.core.data.folds import draw_fold
from dlkit.core.data.images import (
    EXTENSIONS,
    Mode,
    check_image_header,
    fit_image,
    load_image,
    mode_for,
    prepare_image,
    printable,
)
from dlkit.core.data.loader import LoaderSplit
from dlkit.core.data.mask_files import Color, is_color
from dlkit.core.data.masks import IGNORED, count_classes, join_mask, part_mask, scale_masks
from dlkit.core.data.mixing import CutMix, MixingPlan, MixUp
from dlkit.core.data.opening import OpenedData, open_data, open_source
from dlkit.core.data.samples import TensorSamples
from dlkit.core.data.scan import run_on_all, scan_images
from dlkit.core.data.size_plan import SizePlan
from dlkit.core.data.sources import is_array_file, is_table_file, read_array_rows, read_image_rows, read_rows
from dlkit.core.data.splits import pick_eval_batch_size, pick_loader_options, planned_epochs
from dlkit.core.data.statistics import measure_statistics, normalize_inputs, restore_targets
from dlkit.core.data.subsets import Subset, hold_out, pick_limit
from dlkit.core.data.transforms import Pipeline, TransformStep
from dlkit.core.data.whole_pictures import WholePicture, whole_picture
