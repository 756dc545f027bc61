"""`labelwise report`: one page, whole and strict enough to parse as XML, for every kind of run and of data."""

import re
import shutil
import sys
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest

from commands import main
from labelwise.errors import DataError, LabelwiseError
from labelwise.spec import TrainedSpec
from tests.training.report.conftest import relabelled, untrained_run
from training.config import TrainConfig
from training.data.labelled_data import ABSENT, PRESENT, UNKNOWN, LabelledData
from training.report.page import report_run, write_report

XHTML = "{http://www.w3.org/1999/xhtml}"


@pytest.fixture(scope="module")
def page(run: Path, data: LabelledData) -> Element:
    return parse(write_report(run, data))


def parse(file: Path) -> Element:
    return fromstring(file.read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>"))


def section(page: Element, name: str) -> Element:
    (found,) = (element for element in page.iter(f"{XHTML}section") if element.get("id") == name)
    return found


def text(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def figures(element: Element) -> list[Element]:
    return [found for found in element.iter(f"{XHTML}div") if found.get("role") == "img"]


def table(page: Element) -> list[list[str]]:
    (body,) = section(page, "labels").iter(f"{XHTML}tbody")
    return [[text(cell) for cell in row] for row in body]


def test_the_sections_stand_in_order(page: Element, run: Path, data: LabelledData):
    sections = [element.get("id") for element in page.iter(f"{XHTML}section")]
    expected = ["summary", "curves", "labels", "precision-recall", "calibration", "missed", "alarms", "embeddings"]
    assert sections == expected
    assert [link.get("href") for link in page.iter(f"{XHTML}a")] == [f"#{name}" for name in expected[1:]]
    summary = text(section(page, "summary"))
    assert f"{TrainedSpec.read(run).metrics['mAP']:.3f}" in summary
    assert f"{len(data.train)} to train on, {len(data.val)} for val" in summary
    assert "4, stage 2 from epoch 3" in summary
    assert "These are not the photos" not in summary


def test_every_figure_is_there_once_and_described(page: Element, data: LabelledData):
    with_curve = sum((data.val.targets == PRESENT).any(axis=0))
    assert with_curve > 2
    assert len(figures(section(page, "curves"))) >= 2
    assert len(figures(section(page, "precision-recall"))) == with_curve
    assert len(figures(section(page, "calibration"))) == 1
    assert len(figures(section(page, "embeddings"))) == 2
    assert all(figure.get("aria-label") and len(figure) == 1 for figure in figures(page))
    names = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(names) == len(set(names))
    assert all(image.get("alt") for image in page.iter(f"{XHTML}img"))


def test_the_table_says_what_the_contract_says(page: Element, run: Path, data: LabelledData):
    spec, rows = TrainedSpec.read(run), table(page)
    assert tuple(row[0] for row in rows) == spec.labels
    assert [row[-1] for row in rows] == [f"{threshold:.4f}" for threshold in spec.thresholds]
    assert [int(row[1]) for row in rows] == list(spec.data.train_counts.values())
    assert [int(row[2]) for row in rows] == (data.val.targets == PRESENT).sum(axis=0).tolist()


def test_it_needs_nothing_else_and_follows_the_colour_scheme(page: Element, run: Path):
    source = (run / "report.html").read_text(encoding="utf-8")
    links = [element.get(name, "") for element in page.iter() for name in ("src", "href")]
    links += [element.get("{http://www.w3.org/1999/xlink}href", "") for element in page.iter()]
    assert all(link.startswith(("#", "data:image/")) for link in filter(None, links))
    assert "@import" not in source
    assert not re.search(r"url\((?!#)", source)
    assert "prefers-color-scheme: dark" in source
    assert re.search(r"stroke: var\(--s0\)", source)
    assert "#0000" not in source  # a placeholder that the page's colours did not replace
    assert [file.name for file in run.iterdir() if file.name.startswith(".")] == []


def test_mistakes_show_photo_and_attention(run: Path, data: LabelledData, config: TrainConfig, tmp_path: Path):
    never = untrained_run(tmp_path / "never", config, data, threshold=1.0)
    page = parse(write_report(never, data))
    count = int((data.val.targets == PRESENT).sum())
    missed = section(page, "missed")
    assert f"{count} labels are on a photo" in text(missed)
    shown = list(missed.iter(f"{XHTML}article"))
    assert len(shown) == min(count, 12)
    assert all(len(list(article.iter(f"{XHTML}img"))) == 2 for article in shown)
    assert "There were no false alarms." in text(section(page, "alarms"))


@pytest.mark.parametrize(
    "labels",
    [
        ["only"],
        ["<script>alert(1)</script>", '"><img src=x>', "a & b"],
        ["海", "مرحبا", "Größe", "🌳"],
        [f"label {number}" for number in range(80)],
    ],
    ids=["one", "markup", "scripts", "eighty"],
)
def test_any_labels(labels: list[str], config: TrainConfig, data: LabelledData, tmp_path: Path):
    changed = relabelled(data, labels)
    file = write_report(untrained_run(tmp_path, config, changed), changed)
    page = parse(file)
    assert [row[0] for row in table(page)] == labels
    assert len(list(page.iter(f"{XHTML}script"))) == 1
    assert "<script>alert" not in file.read_text(encoding="utf-8")
    with_curve = int((changed.val.targets == PRESENT).any(axis=0).sum())
    assert with_curve
    assert len(figures(section(page, "precision-recall"))) == min(with_curve, 16)
    assert ("the 12 with the lowest" in text(section(page, "precision-recall"))) == (with_curve > 16)


def test_a_bare_run_says_what_it_lacks(config: TrainConfig, data: LabelledData, tmp_path: Path):
    tiny = LabelledData(data.labels, data.train, data.val.subset([0]))
    tiny.val.targets[:] = [[PRESENT, *[ABSENT] * (len(data.labels) - 1)]]
    bare = untrained_run(tmp_path, config, data)
    page = parse(write_report(bare, tiny))
    assert "no history" in text(section(page, "curves"))
    assert "keeps no stage1.safetensors" in text(section(page, "embeddings"))
    assert "too few points" in text(section(page, "embeddings"))
    assert figures(section(page, "embeddings")) == []
    assert "These are not the photos" in text(section(page, "summary"))


def test_a_label_without_photos_has_dashes_and_no_curve(config: TrainConfig, data: LabelledData, tmp_path: Path):
    changed = relabelled(data, ["here", "nowhere"])
    changed.val.targets[:, 1] = ABSENT
    page = parse(write_report(untrained_run(tmp_path, config, changed, threshold=1.0), changed))
    unknown = int((changed.val.targets[:, 0] == UNKNOWN).sum())
    supports = [str(int((changed.train.targets[:, 1] == PRESENT).sum())), "0", *(["0"] if unknown else [])]
    assert table(page)[1] == ["nowhere", *supports, "–", "–", "–", "–", "1.0000"]
    assert "no curve: nowhere." in text(section(page, "precision-recall"))


def test_many_labels_without_photos_are_folded_away(config: TrainConfig, data: LabelledData, tmp_path: Path):
    changed = relabelled(data, ["here", *(f"nowhere {number}" for number in range(21))])
    changed.val.targets[:, 1:] = ABSENT
    page = parse(write_report(untrained_run(tmp_path, config, changed), changed))
    (folded,) = section(page, "precision-recall").iter(f"{XHTML}details")
    assert text(folded).startswith("21 labels have no photo in val, and so no curve")
    assert text(folded).rstrip().endswith("nowhere 20.")


def test_tags_on_photos_without_labels_are_told(config: TrainConfig, data: LabelledData, tmp_path: Path):
    others = relabelled(data, ("cat", "dog"))
    others.val.targets[1:] = ABSENT
    page = parse(write_report(untrained_run(tmp_path / "run", config, others, threshold=0.0), others))
    assert "False alarms a tag on 1.000 of the 3 val photos with none of the labels" in text(section(page, "summary"))


def test_what_does_not_fit_is_refused_in_a_line(run: Path, data: LabelledData, tmp_path: Path):
    with pytest.raises(DataError, match="other"):
        write_report(run, relabelled(data, ["other"]))
    with pytest.raises(LabelwiseError, match="is not a trained run"):
        report_run(tmp_path, tmp_path)
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "report.html").unlink(missing_ok=True)
    (copy / "stage1.safetensors").write_bytes(b"no weights")
    with pytest.raises(LabelwiseError, match=r"stage1\.safetensors does not fit"):
        write_report(copy, data)
    assert not (copy / "report.html").exists()


def test_from_the_command_line(run: Path, dataset: Path, tmp_path: Path, monkeypatch, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "report.html").unlink(missing_ok=True)
    monkeypatch.setattr(sys, "argv", ["labelwise", "report", str(copy), str(dataset)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    told = capsys.readouterr()
    assert told.out.startswith("Read as ")
    assert (told.out.splitlines()[-1], told.err) == (f"Wrote {copy / 'report.html'}.", "")
    assert len(figures(parse(copy / "report.html"))) > 5
