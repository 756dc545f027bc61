"""The figures, as SVG in the page's own colours, so that they follow its light and dark mode.

The figures contain no label names, because their fonts lack glyphs. The page has the names beside them.
"""

import functools
import io
import re
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from training.report.labels import Calibration, LabelRow
from training.run_log import History

# CSS variables of the page. A figure is drawn in one placeholder colour per variable. None is black, the default
# of SVG, which is not written out and could not be replaced.
_SERIES = 10
_VARIABLES = ("ink", "muted", "line", *(f"s{number}" for number in range(_SERIES)))
_COLOURS = {name: f"#0000{index:02x}" for index, name in enumerate(_VARIABLES, start=1)}
_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's own font
    "svg.hashsalt": "labelwise",
    "font.size": 9,
    "text.color": _COLOURS["ink"],
    "axes.labelcolor": _COLOURS["muted"],
    "axes.edgecolor": _COLOURS["line"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _COLOURS["line"],
    "grid.linewidth": 0.6,
    "xtick.color": _COLOURS["line"],
    "ytick.color": _COLOURS["line"],
    "xtick.labelcolor": _COLOURS["muted"],
    "ytick.labelcolor": _COLOURS["muted"],
    "lines.linewidth": 1.8,
}
_MARKERS = ("o", "^")  # after ten labels the colours repeat, with another marker

_LOSSES = ("loss", "bce", "asymmetric", "contrast", "prototype")
_METRICS = ("mAP", "LRAP", "CF1", "OF1")
_PANEL = (4.0, 2.7)  # inches; the page scales it
_SQUARE = (4.2, 4.2)
_SMALL = (1.75, 1.6)


def course(history: History, best_epoch: int | None) -> dict[str, Markup]:
    """Curves over the epochs, by title. Leaves out curves without values."""
    svgs = {}
    for title, keys in {"Loss": _LOSSES, "On val": _METRICS, "Learning rate": ("lr",)}.items():
        if logged := [key for key in keys if history.series(key)[0]]:
            draw = functools.partial(_draw_course, history=history, keys=logged, best_epoch=best_epoch)
            svgs[title] = _draw(f"course{len(svgs)}", _PANEL, draw)
    return svgs


def _draw_course(axes: Axes, history: History, keys: Sequence[str], best_epoch: int | None) -> None:
    for number, key in enumerate(keys):
        epochs, values = map(np.array, history.series(key))
        is_stage_2 = epochs >= (history.stage_2_start or np.inf)
        for label, part in ((key, ~is_stage_2), (None, is_stage_2)):  # no line across the stages
            style = {"marker": "o", "markersize": 4} if part.sum() == 1 else {}
            axes.plot(epochs[part], values[part], color=_series(number), label=label, **style)
    if history.stage_2_start is not None:
        axes.axvline(history.stage_2_start - 0.5, color=_COLOURS["muted"], linestyle=(0, (4, 3)), linewidth=1)
    if best_epoch is not None:
        axes.axvline(best_epoch, color=_COLOURS["ink"], linewidth=1, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    if len(keys) > 1:
        axes.legend(
            frameon=False,
            ncols=len(keys),
            handlelength=1.2,
            columnspacing=1.2,
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            borderaxespad=0,
        )


def precision_recall(scores: NDArray[np.float32], targets: NDArray[np.float32], row: LabelRow) -> Markup:
    """The curve of one label with the point of its threshold; scores and targets [n]."""
    known = targets >= 0
    precision, recall, _ = precision_recall_curve(targets[known], scores[known])

    def draw(axes: Axes) -> None:
        axes.fill_between(recall, precision, step="post", color=_series(0), alpha=0.13, linewidth=0)
        axes.step(recall, precision, where="post", color=_series(0))
        if not np.isnan(row.precision):
            axes.plot(row.recall, row.precision, "o", color=_series(1), markersize=6, clip_on=False, zorder=5)
        _frame_unit_square(axes)

    return _draw(f"pr{row.index}", _SMALL, draw)


def reliability(bins: Calibration) -> Markup:
    """How often a label is present among answers with a similar score (DeGroot & Fienberg 1983)."""

    def draw(axes: Axes) -> None:
        shares = np.array(bins.counts) / sum(bins.counts)
        axes.bar(bins.edges[:-1], shares, np.diff(bins.edges), align="edge", color=_COLOURS["line"], linewidth=0)
        axes.plot([0, 1], [0, 1], color=_COLOURS["muted"], linestyle=(0, (4, 3)), linewidth=1)
        axes.plot(bins.mean_score, bins.frequency, color=_series(0), marker="o", markersize=5, clip_on=False, zorder=5)
        _frame_unit_square(axes)
        axes.set_xlabel("score")
        axes.set_ylabel("share present")

    return _draw("reliability", _SQUARE, draw)


def scatter(name: str, points: NDArray[np.float32], groups: NDArray[np.int64]) -> Markup:
    """Points [k, 2] in the plane with the marker of their group [k]; `name` is unique on the page."""

    def draw(axes: Axes) -> None:
        for group in np.unique(groups):
            x, y = points[groups == group].T
            axes.plot(x, y, marker(group), color=_series(group), markersize=4.5, alpha=0.75, markeredgewidth=0)
        axes.set(xticks=[], yticks=[])
        axes.margins(0.04)

    return _draw(name, _SQUARE, draw)


def marker(group: int) -> str:
    return _MARKERS[group // _SERIES % len(_MARKERS)]


def css_colour(group: int) -> str:
    """The colour of a group of `scatter` in the page's legend."""
    return f"var(--s{group % _SERIES})"


def _series(number: int) -> str:
    return _COLOURS[f"s{number % _SERIES}"]


def _frame_unit_square(axes: Axes) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set_xticklabels(["0", "½", "1"])
    axes.set_yticklabels(["0", "½", "1"])


def _draw(name: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> Markup:
    with rc_context(_STYLE):
        figure = Figure(size, layout="constrained")
        draw(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(name, stream.getvalue())


def _for_page(name: str, svg: str) -> Markup:
    """The bare <svg>, with the page's colours and with ids that are unique on the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    for variable, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return Markup(re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg))
