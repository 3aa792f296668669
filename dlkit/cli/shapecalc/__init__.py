"""`dlkit shapecalc`: sizes, costs, receptive fields of layers, chains and models. Only `model` imports torch."""

from dlkit.cli.shapecalc.app import app
