"""The course of a run: its history, also from a damaged history.jsonl, and its curves."""

import json
from pathlib import Path

from training.report.figures import course
from training.run_log import History, read_history


def test_history_copes_with_crashes_and_absent_keys(tmp_path: Path):
    entries = [
        {"epoch": 1, "stage": 1, "loss": 1.0, "mAP": 0.4},
        {"epoch": 2, "stage": 1, "loss": 0.9, "mAP": 0.9},
        {"epoch": 2, "stage": 1, "loss": 0.8, "mAP": 0.5, "OF1": 0.9},  # logged, not saved, and so trained once more
        {"epoch": 3, "stage": 2, "loss": 2.0, "mAP": 0.5, "OF1": 0.25, "lr": 0.1, "seconds": 2.5},
    ]
    lines = [*map(json.dumps, entries), '{"epoch": 4, "lo', "\0\0"]
    (tmp_path / "history.jsonl").write_text("\n".join(lines))
    history = read_history(tmp_path)
    assert history.unreadable_lines == 2
    assert history.series("loss") == ([1, 2, 3], [1.0, 0.8, 2.0])
    assert history.series("lr") == ([3], [0.1])
    assert (history.stage_2_start, history.stage_of(2), history.seconds) == (3, 1, 2.5)
    assert history.best_epoch({"mAP": 0.500004, "OF1": 0.25}) == 3
    assert history.best_epoch({}) == 2  # of two epochs with the same mAP the first was kept


def test_curves_are_those_that_were_logged():
    parts = {"loss": 1.0, "bce": 0.5, "contrast": 0.5}
    entries = [
        {"epoch": 1, "stage": 1, "loss": 2.0, "mAP": 0.1},
        {"epoch": 2, "stage": 2, "mAP": 0.2, "lr": 0.1, **parts},
    ]
    svgs = course(History(tuple(entries)), best_epoch=2)
    assert list(svgs) == ["Loss", "On val", "Learning rate"]
    assert all(f">{name}</text>" in svgs["Loss"] for name in parts)
    assert ">mAP</text>" not in svgs["On val"]  # the title says it, where there is one curve
    assert course(History(()), None) == {}
