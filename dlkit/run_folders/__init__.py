"""Run folders as those read them who do not train: what a run was, what it came to and whether it still goes on, without torch."""

from typing import TYPE_CHECKING

from dlkit.doors import lazy_door

if TYPE_CHECKING:
    from dlkit.run_folders.columns import columns_of, sort_runs
    from dlkit.run_folders.conditions import choose_runs
    from dlkit.run_folders.evaluation import StoredEvaluation, read_evaluation
    from dlkit.run_folders.finding import find_run_folders
    from dlkit.run_folders.layout import (
        BEST,
        EVALUATION_FILE,
        EVALUATION_SCHEMA,
        GIVEN_FILE,
        LAST,
        METRICS_FILE,
        MODEL_FILE,
        PREDICTIONS_FILE,
        RESOLVED_FILE,
        RUN_FILE,
        SUMMARY_FILE,
        has_begun,
        read_mapping,
    )
    from dlkit.run_folders.lock import RunLock, is_in_use
    from dlkit.run_folders.metrics import Metrics, Row, read_metrics
    from dlkit.run_folders.predictions import (
        MOST_NUMBERS,
        KeptPredictions,
        PredictionFacts,
        read_predictions,
        save_predictions,
    )
    from dlkit.run_folders.settings import (
        FREE_SETTINGS,
        changed_settings,
        default_settings,
        differing_settings,
        flat_settings,
        is_among,
        setting_text,
    )
    from dlkit.run_folders.stored_run import StoredRun, read_run

__getattr__, __all__ = lazy_door(
    __name__,
    {
        "columns": "columns_of sort_runs",
        "conditions": "choose_runs",
        "finding": "find_run_folders",
        "evaluation": "StoredEvaluation read_evaluation",
        "layout": "BEST EVALUATION_FILE EVALUATION_SCHEMA GIVEN_FILE LAST METRICS_FILE MODEL_FILE PREDICTIONS_FILE RESOLVED_FILE "
        "RUN_FILE SUMMARY_FILE has_begun read_mapping",
        "lock": "RunLock is_in_use",
        "metrics": "Metrics Row read_metrics",
        "predictions": "MOST_NUMBERS KeptPredictions PredictionFacts read_predictions save_predictions",
        "settings": "FREE_SETTINGS changed_settings default_settings differing_settings flat_settings is_among setting_text",
        "stored_run": "StoredRun read_run",
    },
)
