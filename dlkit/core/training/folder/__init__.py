"""What a run leaves on disk: its folder, checkpoints, metrics, logs and facts."""

from dlkit.core.training.folder.checkpoints import (
    checkpoints_in,
    newest_checkpoints,
    read_checkpoint,
    read_exported,
    save_checkpoint,
)
from dlkit.core.training.folder.disk_space import check_disk_space
from dlkit.core.training.folder.ended import EndedRun, read_ended
from dlkit.core.training.folder.location import RunLocation, find_begun, pick_location
from dlkit.core.training.folder.map_pictures import MapPictures
from dlkit.core.training.folder.nonfinite import told_in_full
from dlkit.core.training.folder.reclaiming import Reclaimable, delete_reclaimable, find_reclaimable
from dlkit.core.training.folder.records import Follower, RunRecords, log_to
from dlkit.core.training.folder.resuming import Resumed, mend_best, read_best, read_resumed
from dlkit.core.training.folder.run_facts import facts_of, resume_command, run_started, spec_of
from dlkit.core.training.folder.run_folder import (
    RunFolder,
    check_writable,
    create_run_folder,
    reopen_run_folder,
    summary_of,
)
from dlkit.core.training.folder.same_run import Resume, check_same_run, extend_schedule
from dlkit.core.training.folder.tensorboard import Board, flat_hparams
