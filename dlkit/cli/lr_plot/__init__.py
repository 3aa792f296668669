"""`dlkit lr-plot`: its options, and what the words on its line ask for."""

from dlkit.cli.lr_plot.command import CONTEXT_SETTINGS, EPILOG, lr_plot
