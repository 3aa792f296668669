"""A command that runs as several processes: starting them, what one of them has to know, and how it tells why it failed."""

from dlkit.cli.processes.environment import count_processes, hold_lifeline, is_main_process
from dlkit.cli.processes.failure_notes import note_failure
from dlkit.cli.processes.launch import has_to_launch, launch
