"""The course of a run, from its history.jsonl."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelwise.spec import TrainedSpec
from training.checkpoint import HISTORY_FILE

_ROUNDING = 6e-6  # history keeps five decimals


@dataclass(frozen=True)
class History:
    """One entry per epoch, in order, with its `epoch` and, if known, its `stage`."""

    entries: tuple[dict[str, Any], ...]
    unreadable_lines: int = 0

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """Epochs and values of `key`, for the epochs that have it."""
        found = [(entry["epoch"], entry[key]) for entry in self.entries if _is_number(entry.get(key))]
        return [epoch for epoch, _ in found], [float(value) for _, value in found]

    @property
    def stage_2_start(self) -> int | None:
        """The first epoch of stage 2."""
        return next((entry["epoch"] for entry in self.entries if entry.get("stage") == 2), None)

    @property
    def seconds(self) -> float:
        return sum(self.series("seconds")[1])

    def stage_of(self, epoch: int | None) -> int | None:
        return next((entry.get("stage") for entry in self.entries if entry["epoch"] == epoch), None)

    def best_epoch(self, metrics: Mapping[str, float]) -> int | None:
        """The saved epoch: the one with these `metrics`, otherwise the one with the highest mAP."""
        for entry in self.entries:
            shared = [(entry[name], value) for name, value in metrics.items() if _is_number(entry.get(name))]
            if shared and all(abs(logged - kept) <= _ROUNDING for logged, kept in shared):
                return entry["epoch"]
        epochs, values = self.series("mAP")
        return epochs[values.index(max(values))] if values else None


def read_history(run: Path, spec: TrainedSpec) -> History:
    """A run without a history has no entries. Counts and leaves out a line that a crash cut short."""
    file = run / HISTORY_FILE
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    stage_1_epochs = spec.training.get("epochs")
    by_epoch: dict[int, dict[str, Any]] = {}  # a run that stopped between log and save logs an epoch twice
    unreadable = 0
    for line in filter(str.strip, lines):
        entry = _parse(line)
        if entry is None:
            unreadable += 1
            continue
        if isinstance(stage_1_epochs, int):
            entry.setdefault("stage", 1 if entry["epoch"] <= stage_1_epochs else 2)
        by_epoch[entry["epoch"]] = entry
    return History(tuple(by_epoch[epoch] for epoch in sorted(by_epoch)), unreadable)


def _parse(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("epoch"), int) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
