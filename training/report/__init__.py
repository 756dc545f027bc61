"""`labelwise report`: what a run learned, and where it errs, as one HTML page that needs nothing else."""

from training.report.page import report_run, write_report

__all__ = ["report_run", "write_report"]
