"""The store of corrections: each exactly once, whoever writes and whatever is killed; and what cannot be used."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelwise import feedback
from labelwise.feedback import (
    Correction,
    Features,
    FeedbackError,
    FeedbackStore,
    LabelCount,
    StoreFull,
    TokenReused,
    is_store,
)
from tests.conftest import ROOT
from tests.polling import PATIENCE

SEA = Correction("a" * 64, {"sea": True, "trees": False}, "everyday", 1, key="phone")
_ADDS = """if True:
    import os, signal, sys
    from pathlib import Path
    from labelwise import feedback
    def request(number):
        answers = {"sea": True, "trees": False}
        return feedback.Correction(f"{number:064x}", answers, "everyday", 1, token=str(number), content=b"it")
    store = feedback.FeedbackStore(Path(sys.argv[1]))
"""


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore.create(tmp_path / "feedback.db")


def run(store: FeedbackStore, program: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _ADDS + program, str(store.file)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def rows(store: FeedbackStore, table: str) -> int:
    with sqlite3.connect(store.file) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_one_that_another_process_makes_meanwhile_is_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, is_empty = tmp_path / "feedback.db", feedback._is_empty

    def made_before(db: sqlite3.Connection) -> bool:
        monkeypatch.undo()
        FeedbackStore.create(file)
        return is_empty(db)

    monkeypatch.setattr("labelwise.feedback._is_empty", made_before)
    assert FeedbackStore.create(file).add(SEA) == 2


def test_what_the_store_says_already_is_not_added_again(store: FeedbackStore):
    assert store.add(SEA) == 2
    assert store.add(replace(SEA, model="scenes", key=None)) == 0
    assert store.add(replace(SEA, answers={"sea": True, "trees": True, "beach": False})) == 2
    assert store.add(SEA) == 1  # changed back
    assert store.counts() == [LabelCount("beach", 0, 1), LabelCount("sea", 1, 0), LabelCount("trees", 0, 1)]
    assert rows(store, "answers") == 5


def test_a_request_sent_again_is_stored_once_also_if_another_answer_came_between(store: FeedbackStore):
    once = replace(SEA, token="t")
    assert store.add(once) == 2
    assert store.add(replace(SEA, answers={"sea": False})) == 1
    assert store.add(replace(once, version=2)) == 2  # what it added the first time
    assert store.counts()[0] == LabelCount("sea", 0, 1)
    with pytest.raises(TokenReused):
        store.add(replace(once, answers={"sea": False}))
    assert store.add(replace(once, key="another client")) == 1


def test_labels_that_differ_by_case_are_one(store: FeedbackStore):
    store.add(SEA)
    assert store.add(replace(SEA, answers={"SEA": True, "Trees": True})) == 1
    assert store.answered().labels == ("sea", "trees")


def test_the_newest_answers_features_and_photos_are_read(store: FeedbackStore):
    values = Features("g", np.arange(3, dtype=np.float32), np.float32([-1.5]))
    store.add(replace(SEA, features=values, content=b"photo"))
    store.add(Correction("b" * 64, {"beach": True}, "everyday", 1))
    answered = store.answered()
    assert (answered.photos, answered.labels) == (("a" * 64, "b" * 64), ("sea", "trees", "beach"))
    assert answered.answers.tolist() == [[1, 0, -1], [-1, -1, 1]]
    found = store.features("g", answered.photos)
    assert {*found} == {"a" * 64}
    assert (found["a" * 64].features == values.features).all()
    assert found["a" * 64].logits == values.logits
    assert store.features("another", answered.photos) == {}
    assert store.with_content() == {"a" * 64}
    assert store.content("a" * 64) == b"photo"


@pytest.mark.parametrize("change", ["UPDATE answers SET answer = 0", "DELETE FROM answers", "DELETE FROM photos"])
def test_it_only_grows(store: FeedbackStore, change: str):
    store.add(SEA)
    with sqlite3.connect(store.file) as db, pytest.raises(sqlite3.IntegrityError, match="only grows"):
        db.execute(change)


def test_several_processes_add_each_request_once(store: FeedbackStore):
    program = "\n    for number in range(10):\n        store.add(request(number))\n"
    processes = [run(store, program) for _ in range(3)]
    for process in processes:
        process.communicate(timeout=PATIENCE)
    assert [process.returncode for process in processes] == [0] * 3
    assert [rows(store, table) for table in ("photos", "contents", "answers", "requests")] == [10, 10, 20, 10]


def test_a_kill_at_any_step_leaves_all_of_a_request_or_nothing(store: FeedbackStore):
    """The n-th process is killed before its n-th statement, and the client sends its request again."""
    program = """
    def connect(*arguments, **options):
        db = sqlite3_connect(*arguments, **options)
        db.set_trace_callback(count)
        return db
    def count(statement):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    sqlite3_connect, feedback.sqlite3.connect = feedback.sqlite3.connect, connect
    number, status = 0, -signal.SIGKILL
    while status:
        number += 1
        left = number
        if not (child := os.fork()):
            store.add(request(number))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        left = -1
        store.add(request(number))
    print(number)
"""
    process = run(store, program)
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    count = int(printed)
    assert count > 15
    assert [rows(store, table) for table in ("photos", "contents", "answers", "requests")] == [
        *(count, count, 2 * count, count)
    ]


def test_only_its_owner_reads_it(store: FeedbackStore):
    assert store.file.stat().st_mode & 0o077 == 0


def _not_a_database(file: Path) -> None:
    file.write_text("sea, trees\n" * 100)


def _another_database(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE t (a)")


def _newer(file: Path) -> None:
    FeedbackStore.create(file)
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_not_a_database, r"feedback\.db is not a store of corrections: name another file\."),
        (_another_database, r"feedback\.db is not a store of corrections: name another file\."),
        (_newer, r"feedback\.db was made by a newer labelwise: update this one\."),
        (Path.mkdir, r"The store of corrections .*feedback\.db cannot be used: unable to open database file\."),
    ],
)
def test_a_file_that_is_no_store_is_refused(make: Callable[[Path], None], message: str, tmp_path: Path):
    file = tmp_path / "feedback.db"
    make(file)
    for use in (lambda: FeedbackStore.create(file), lambda: FeedbackStore(file).add(SEA), FeedbackStore(file).counts):
        with pytest.raises(FeedbackError, match=f"{message}$"):
            use()


def test_a_store_that_is_missing_is_not_made_by_readers(tmp_path: Path):
    file = tmp_path / "feedback.db"
    with pytest.raises(FeedbackError, match="There is no store of corrections"):
        FeedbackStore(file).counts()
    assert not file.exists()
    with pytest.raises(FeedbackError, match="cannot be made: No such file or directory"):
        FeedbackStore.create(tmp_path / "nowhere/feedback.db")


def test_a_store_that_another_program_locks_is_one_line(store: FeedbackStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feedback, "_WAIT", 0.05)
    with sqlite3.connect(store.file, isolation_level=None) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(FeedbackError, match=r"was locked for 0\.05 seconds by another program"):
            store.add(SEA)
        db.execute("COMMIT")
    db.close()
    assert store.add(SEA) == 2


def test_a_full_disk_is_one_line_and_leaves_the_store_whole(store: FeedbackStore, monkeypatch: pytest.MonkeyPatch):
    connect = sqlite3.connect

    def on_a_full_disk(*arguments: object, **options: object) -> sqlite3.Connection:
        db = connect(*arguments, **options)
        db.execute("PRAGMA max_page_count = 1")  # that is, no more than there are
        return db

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", on_a_full_disk)
        with pytest.raises(StoreFull, match="There is no room for"):
            store.add(replace(SEA, content=bytes(10**6)))
    assert store.counts() == []
    assert store.add(SEA) == 2


def test_a_store_is_recognised_by_its_content(store: FeedbackStore, tmp_path: Path):
    assert is_store(store.file)
    _another_database(tmp_path / "other.db")
    assert [is_store(file) for file in (tmp_path / "other.db", tmp_path, tmp_path / "none")] == [False] * 3
