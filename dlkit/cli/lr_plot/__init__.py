"""`dlkit lr-plot`: its options, and what the words on its line ask for."""

from dlkit.cli.lr_plot.command import app
