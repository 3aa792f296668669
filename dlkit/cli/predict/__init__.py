"""`dlkit predict`: its options, what is predicted, and how that is shown and written."""

from dlkit.cli.predict.command import app
