"""`dlkit train`: its options, and how a run and a dry run look."""

from dlkit.cli.train.command import app
