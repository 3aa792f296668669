"""Commands that take a config: keys that somebody writes as options are answered with the way to set them."""

from typing import Any

from typer.exceptions import TyperException

from dlkit.cli.plain_help import PlainCommand
from dlkit.errors import UsageError


class ConfigCommand(PlainCommand):
    """A command whose further words are `key=value`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the line. Raises UsageError for an option that is a key of the config."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            if not hasattr(error, "possibilities"):  # what only an unknown option has
                raise
            options = [name for param in self.params for name in getattr(param, "opts", ()) if name.startswith("-")]
            raise UsageError(_answer(str(getattr(error, "option_name", "")), given, options)) from None


def _answer(option: str, words: list[str], options: list[str]) -> str:
    from dlkit.config import keys_named
    from dlkit.suggestions import did_you_mean

    index = next((index for index, word in enumerate(words) if word.partition("=")[0] == option), len(words))
    _, _, value = words[index].partition("=") if index < len(words) else ("", "", "")
    if not value and index + 1 < len(words) and not words[index + 1].startswith("-") and "=" not in words[index + 1]:
        value = words[index + 1]
    written = option.replace("_", "-")
    if written in options:
        return f"no option {option}; it is written {written}"
    near = did_you_mean(option, options) if len(option) > len("--k") else ""
    keys = keys_named(option.lstrip("-"))
    ways = " or ".join(f"{key}={value or '...'}" for key in keys) or "such as train.epochs=3; see --help"
    return f"no option {option}.{near} Keys of the config are set without dashes{':' if keys else ','} {ways}"
