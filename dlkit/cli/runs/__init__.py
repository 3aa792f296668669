"""`dlkit runs`: its options, its table, and the checkpoints that it deletes."""

from dlkit.cli.runs.command import app
