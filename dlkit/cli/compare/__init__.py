"""`dlkit compare`: its options, its tables and its curves."""

from dlkit.cli.compare.command import app
