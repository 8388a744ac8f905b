"""Reports: one page of pictures and numbers from a file of results."""

from __future__ import annotations

from memristore.report.page import write_report
from memristore.report.verdict import Verdict, judge

__all__ = ["Verdict", "judge", "write_report"]
