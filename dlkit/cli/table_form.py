"""How tables are printed: `--tsv`, which stands anywhere on the line, asks for tabs between the cells."""

from contextvars import ContextVar

AS_TSV: ContextVar[bool] = ContextVar("AS_TSV", default=False)
