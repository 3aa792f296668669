"""A run, or several, as one HTML page that needs nothing else: from what their folders hold, and the data where it can be had."""

from dlkit.report.run import ReportRequest, ReportResult, run_report, write_run_page
