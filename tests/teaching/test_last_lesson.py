"""What a label's last lesson began with and learned from is read as it was written."""

import hashlib

import numpy as np
import onnx

from export.metadata import carry_over
from teaching.label_rows import LabelRow
from teaching.last_lesson import FACT, fact_of, lesson_from, read_last_lessons

PHOTOS = [hashlib.sha256(bytes([number])).hexdigest() for number in range(9)]


def test_it_is_read_from_a_graph_as_it_was_written():
    row = LabelRow(np.random.default_rng(0).normal(size=3).astype(np.float32), np.float64(-1.5), 7, 0.5)
    lessons = {"new": lesson_from(None, 0.5, PHOTOS[:4]), "taught before": lesson_from(row, 0.25, PHOTOS)}
    model = onnx.ModelProto()
    assert read_last_lessons(model) == {}
    carry_over(model, model, {FACT: fact_of(lessons)})
    again = read_last_lessons(model)
    assert again["new"] == lessons["new"]
    assert again["taught before"][1:] == lessons["taught before"][1:]
    start = again["taught before"].start
    assert np.array_equal(start.weight, row.weight)
    assert start[1:] == row[1:]


def test_a_lesson_is_within_one_with_all_its_photos():
    last = lesson_from(None, 0.5, PHOTOS[:4])
    assert last.is_within(PHOTOS[3::-1])
    assert last.is_within(PHOTOS)
    assert not last.is_within(PHOTOS[1:])
