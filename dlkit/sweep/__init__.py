"""Sweeps: the search for the best values of a config's keys, by any number of processes that share a storage."""

from typing import TYPE_CHECKING

from dlkit.doors import lazy_door

if TYPE_CHECKING:
    from dlkit.sweep.claims import SweepWorker
    from dlkit.sweep.request import SweepRequest, TrialRun, check_request
    from dlkit.sweep.results import SweepResult, TrialRow
    from dlkit.sweep.run import run_sweep
    from dlkit.sweep.sampling import shown_values
    from dlkit.sweep.storage import open_storage

__getattr__, __all__ = lazy_door(
    __name__,
    {
        "claims": "SweepWorker",
        "request": "TrialRun SweepRequest check_request",
        "results": "SweepResult TrialRow",
        "run": "run_sweep",
        "sampling": "shown_values",
        "storage": "open_storage",
    },
)
