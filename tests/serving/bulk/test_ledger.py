"""The journal keeps every row, and says why it cannot be written."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.bulk.ledger import Ledger
from serving.bulk.rows import Identity, Row
from serving.bulk.sources.found import FoundPhoto, look
from serving.bulk.tag_errors import OutputError

SCENES = Identity("scenes", 1, ("sea", "city"), "1" * 12)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.create(tmp_path / "t.csv.journal", SCENES, 1)
    yield ledger
    ledger.close()


def test_looking_up_no_photos_gives_nothing(ledger: Ledger):
    assert ledger.done([]) == {}


def test_looking_up_does_not_slow_down_with_more_rows(ledger: Ledger):
    """Otherwise a run over a million photos that are done takes an hour."""
    steps = []
    ledger._db.set_progress_handler(lambda: steps.append(0), 100)  # a hundred of SQLite's instructions each
    rows = [Row(f"{at:06d}.jpg", 1, 1, np.zeros(2, np.float32)) for at in range(10_000)]
    ledger.put(rows)
    steps.clear()
    assert len(ledger.done([FoundPhoto(row.path, 1, 1, bytes) for row in rows[::100]])) == 100
    assert len(steps) < 100


@pytest.mark.parametrize("seconds", [-(10**10), 10**10, 2**33])  # the years 1653 and 2286; 2242
def test_a_photo_of_any_time_is_kept_and_recognised(ledger: Ledger, tmp_path: Path, seconds: int):
    file = tmp_path / "a.jpg"
    file.write_bytes(b"a")
    os.utime(file, ns=(0, seconds * 10**9))
    photo = look(str(file))
    assert isinstance(photo, FoundPhoto)
    ledger.put([Row(photo.path, photo.size, photo.mtime_ns, np.zeros(2, np.float32))])
    assert {*ledger.done([photo])} == {photo.path}


def test_a_journal_that_cannot_be_made_is_not_reported_as_a_full_disk(tmp_path: Path):
    with pytest.raises(OutputError, match=r"nowhere/t\.journal cannot be written: unable to open") as caught:
        Ledger.create(tmp_path / "nowhere/t.journal", SCENES, 1)
    assert "room" not in str(caught.value)
