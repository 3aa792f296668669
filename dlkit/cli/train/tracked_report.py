"""The report of a run that MLflow follows, beside its other files on the server."""

from pathlib import Path

from dlkit.errors import UsageError, first_line
from dlkit.events import Emit, Note


def send_report(run_dir: Path, uri: str, emit: Emit) -> None:
    """Write report.html into a run folder and send it to the server; a note says why not, as for a server that is away. Nothing
    where the packages that draw it are not installed.
    """
    from dlkit.core.training import send_file
    from dlkit.report import ReportRequest, check_report, run_report

    request = ReportRequest((run_dir,), opens_models=False, is_forced=True)
    try:
        check_report(request)
    except UsageError:
        return
    try:
        send_file(run_dir, run_report(request).path, uri=uri)
    except Exception as error:  # the client and the network have many errors, and the run is over and well
        emit(Note(f"no report on {uri}: {first_line(error, 200)}"))
