"""The one training loop and what stands around it: a run, fine-tuning, the search for a learning rate."""

from dlkit.core.metric_rows import Row
from dlkit.core.training.averaging import average_weights
from dlkit.core.training.distillation import Distillation
from dlkit.core.training.dry_run import DryRun, TrainingMasks, run_dry
from dlkit.core.training.ema import EmaModel
from dlkit.core.training.fine_tuning import FineTuning, build_fine_tuning, fine_tune
from dlkit.core.training.fine_tuning_config import pick_tuning_config
from dlkit.core.training.fit import NoRecords, Plan, Records, fit
from dlkit.core.training.folder import (
    Reclaimable,
    Resume,
    checkpoints_in,
    delete_reclaimable,
    find_reclaimable,
    read_ended,
)
from dlkit.core.training.improvement import BestSoFar, EarlyStopping, is_better, pick_mode
from dlkit.core.training.layer_depths import LayerDepths, find_layer_depths
from dlkit.core.training.learner import Learner
from dlkit.core.training.lr_find import FoundRate, find_learning_rate, iterate_windows, run_range_test
from dlkit.core.training.optimizer_state import check_optimizer_state as check_optimizer_state
from dlkit.core.training.optimizer_state import with_own_kernels as with_own_kernels
from dlkit.core.training.optimizers import (
    build_optimizer,
    check_groups,
    freeze_matching,
    frozen_norms,
    pick_lr,
    resolve_optimizer,
)
from dlkit.core.training.paired_optimizer import PairedOptimizer, hidden_matrices
from dlkit.core.training.rates import build_torch_schedule
from dlkit.core.training.resolving import build_scoring, plan_schedule, run_name
from dlkit.core.training.result import TrainResult
from dlkit.core.training.run import run_training, train
from dlkit.core.training.setup import Job, build_job, resolve_config
from dlkit.core.training.step import MAX_SKIPS, StepResult, train_step
from dlkit.core.training.teacher import Teacher, as_teacher, open_teacher
from dlkit.core.training.tracking import PageWriter, TrackedRun
