"""`dlkit quantize`: its options, the request that they make, and how the results look."""

from dlkit.cli.quantize.command import app
