"""What a check finds, and how it is shown."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from rich.table import Table
from rich.text import Text

Status = Literal["ok", "note", "failed"]
_STYLES = {"ok": "green", "note": "yellow", "failed": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One check of one `subject`, a model or a version. A note is worth reading, but not a failure."""

    subject: str
    check: str
    found: str
    status: Status


def verdict(subject: str, check: str, found: str, faults: list[str]) -> Finding:
    """A finding that failed if there are faults; it shows these, or what was `found`."""
    return Finding(subject, check, "; ".join(faults) or found, "failed" if faults else "ok")


def table(findings: list[Finding]) -> Table:
    rows = Table("subject", "check", "found", "")
    for row in findings:
        cells = (Text(row.subject), Text(row.check), Text(row.found, overflow="fold"))
        rows.add_row(*cells, Text(row.status, style=_STYLES[row.status]))
    return rows


def summary(findings: list[Finding]) -> str:
    """One line of counts, then one line per failure, because the table wraps them."""
    counts = Counter(row.status for row in findings)
    lines = [f"{len(findings)} checks: {counts['ok']} ok, {counts['note']} to note, {counts['failed']} failed."]
    lines += [f"failed: {row.subject}: {row.check}: {row.found}" for row in findings if row.status == "failed"]
    return "\n".join(lines)
