"""What is raised for an engine that cannot run a network here."""

from dlkit.errors import UsageError


class EngineUnavailable(UsageError):
    """An engine that cannot run a network on this machine; `reason` says why, for tables that list it."""

    def __init__(self, engine: str, reason: str) -> None:
        self.engine, self.reason = engine, reason
        super().__init__(f"engine {engine}: {reason}")
