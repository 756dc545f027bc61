"""`labelwise report`: writes report.html from a run's folder and its data."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from labelwise.errors import DataError
from labelwise.label_names import some
from labelwise.spec import TrainedSpec
from training.checkpoint import REPORT_FILE, STAGE_1_FILE, load_checkpoint, write_file
from training.config_layers import flattened
from training.data.labelled_data import LabelledData, require_splits
from training.data.layouts import read_as_trained
from training.data.photo_check import check_photos
from training.device import pick_device
from training.metrics import AT_HALF, AT_TOP_3, FALSE_ALARM_SHARE, PHOTOS_WITHOUT_LABELS, TAG_METRICS, evaluate
from training.model import TaggerNetwork
from training.report import figures
from training.report.embeddings import embedding_panel, sample_places
from training.report.labels import LabelRow, calibration, label_rows
from training.report.mistakes import show_mistakes
from training.report.val_pass import pass_over_val
from training.run_log import read_history

_HEADLINES = ("mAP", "LRAP", "CF1", "OF1")
_OTHERS = ("coverage", "hamming")
_COUNTED = {"thresholds": "", "0.5": AT_HALF, "top 3": AT_TOP_3}
_WORST_CURVES, _BEST_CURVES = 12, 4


def report_run(run: Path, source: str | Path, skip_broken: bool = False, background: Path | None = None) -> Path:
    """`write_report` with the data at `source` and of `background`, split as for the run. Raises LabelwiseError."""
    _, spec = load_checkpoint(run)
    data = read_as_trained(source, spec, background)
    require_splits(data, source)
    data = data.select(spec.labels)
    return write_report(run, check_photos(data, skip_broken=skip_broken))


def write_report(run: Path, data: LabelledData) -> Path:
    """Score the run's best epoch on val and write run/report.html, a self-contained page. Returns its path.

    Raises LabelwiseError if `run` has no checkpoint, and DataError if `data` has other labels or a photo that cannot be
    decoded.
    """
    model, spec = load_checkpoint(run)
    if spec.labels != data.labels:
        raise DataError(f"The data has the labels {some(data.labels)}; the run {some(spec.labels)}.")
    # A photo's name may hold bytes that are not text, which UTF-8 would refuse.
    page = _render(run, model, spec, data).encode("utf-8", errors="backslashreplace")
    write_file(run / REPORT_FILE, page, "make room, or make it writable")
    return run / REPORT_FILE


def _render(run: Path, model: TaggerNetwork, spec: TrainedSpec, data: LabelledData) -> str:
    device = pick_device("auto")
    model = model.to(device)
    earlier = load_checkpoint(run, STAGE_1_FILE)[0].to(device) if (run / STAGE_1_FILE).is_file() else None
    places = sample_places(data.val.targets)
    found = pass_over_val(model, spec, data.val, places, earlier)
    missed, alarms = show_mistakes(spec, data.val, found.scores, found.attention)
    history = read_history(run)
    best_epoch = history.best_epoch(spec.metrics)
    rows = label_rows(spec, data, found.scores)
    bins = calibration(found.scores, data.val.targets)
    metrics = evaluate(found.scores, data.val.targets, np.array(spec.thresholds))
    return _template().render(
        run_name=run.resolve().name,
        spec=spec,
        data=data,
        is_other_data=data.describe().fingerprint != spec.data.fingerprint,
        headlines={name: metrics[name] for name in _HEADLINES if name in metrics},
        other_metrics={name: metrics[name] for name in _OTHERS if name in metrics},
        photos_without_labels=metrics.get(PHOTOS_WITHOUT_LABELS, 0),
        false_alarm_share=metrics.get(FALSE_ALARM_SHARE),
        tag_metrics=TAG_METRICS,
        tag_counts={
            title: [metrics.get(name + suffix, math.nan) for name in TAG_METRICS] for title, suffix in _COUNTED.items()
        },
        settings=list(flattened(spec.training)),
        history=history,
        best_epoch=best_epoch,
        course=figures.course(history, best_epoch),
        rows=rows,
        curves=_curves(rows, found.scores, data.val.targets),
        worst_curves=_WORST_CURVES,
        best_curves=_BEST_CURVES,
        calibration=bins,
        reliability=figures.reliability(bins),
        mistakes={"missed": missed, "alarms": alarms},
        embeddings=embedding_panel(spec, places, found, history.stage_of(best_epoch), earlier is not None),
    )


def _curves(
    rows: list[LabelRow], scores: NDArray[np.float32], targets: NDArray[np.float32]
) -> list[tuple[LabelRow, Markup]]:
    """Precision-recall of every label, or of the worst and best of many; the lowest average precision first."""
    ranked = sorted((row for row in rows if row.has_curve), key=lambda row: row.average_precision)
    if len(ranked) > _WORST_CURVES + _BEST_CURVES:
        ranked = ranked[:_WORST_CURVES] + ranked[-_BEST_CURVES:]
    return [(row, figures.precision_recall(scores[:, row.index], targets[:, row.index], row)) for row in ranked]


def _template() -> Any:
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "probability": _probability, "duration": _duration}
    return environment.get_template("page.html.j2")


def _number(value: float, digits: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def _probability(value: float) -> str:
    """A score near 0 or 1 is not shown as 0 or 1."""
    if 0 < value < 0.001:
        return "< 0.001"
    return "> 0.999" if 0.999 < value < 1 else f"{value:.3f}"


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 1:
        return f"{int(hours)} h {int(minutes % 60)} min"
    return f"{int(minutes)} min {int(seconds % 60)} s" if minutes >= 1 else f"{seconds:.1f} s"
