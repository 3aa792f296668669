"""A command that runs as several processes: starting them, what one of them has to know, and how it tells why it failed."""

from typing import TYPE_CHECKING

from dlkit.doors import lazy_door

if TYPE_CHECKING:
    from dlkit.cli.processes.environment import count_processes, hold_lifeline, is_main_process
    from dlkit.cli.processes.failure_notes import note_failure
    from dlkit.cli.processes.launching import has_to_launch, launch

__getattr__, __all__ = lazy_door(
    __name__,
    {
        "environment": "count_processes hold_lifeline is_main_process",
        "failure_notes": "note_failure",
        "launching": "has_to_launch launch",
    },
)
