"""`dlkit prune`: its options, the request that they make, and how the results look."""

from dlkit.cli.prune.command import app
