"""The problems of a config as text."""

from dlkit.errors import ConfigError

MOST_SHOWN = 50


def problem_report(error: ConfigError) -> str:
    """One line per problem and a closing line with their number."""
    shown = error.problems[:MOST_SHOWN]
    lines = [str(problem) for problem in shown]
    if len(error.problems) > len(shown):
        lines.append(f"... and {len(error.problems) - len(shown)} more")
    count = "1 problem" if len(error.problems) == 1 else f"{len(error.problems)} problems"
    return "\n".join([*lines, f"{count}; nothing was started. Full key list: dlkit config schema"])
