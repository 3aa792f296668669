"""`dlkit sweep`: its options, and how a sweep looks while it runs and at its end."""

from dlkit.cli.sweep.command import app
