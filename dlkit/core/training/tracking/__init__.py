"""Trackers: what follows a run by its events and keeps it elsewhere, such as an MLflow server or a function of the user's own."""

from dlkit.core.training.tracking.opening import check_trackers, tracked
from dlkit.core.training.tracking.tracked_run import PageWriter, TrackedRun
