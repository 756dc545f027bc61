"""Shows and logs a run: a progress bar, a line per epoch, history.jsonl, TensorBoard."""

import json
import time
import warnings
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.checkpoint import HISTORY_FILE
from training.writing import explained

TENSORBOARD_FOLDER = "tensorboard"
_IN_LINE = ("loss", "mAP", "LRAP", "CF1", "OF1")


class RunLog:
    """Follows a run of `total` steps, each weighted by its views, from `epoch` on. Use as a context manager.

    Only the main process writes files and, unless `quiet`, shows anything.
    """

    def __init__(self, out: Path, total: int, epoch: int = 0, is_main: bool = True, quiet: bool = False) -> None:
        self._epoch = epoch
        self._history = out / HISTORY_FILE
        self._folder = out / TENSORBOARD_FOLDER
        self._is_main = is_main
        self._mean_ap = "–"
        self._images = 0
        self._started = time.monotonic()
        self._console = Console(soft_wrap=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not is_main,
        )
        self._task = self._bar.add_task("", total=total, facts="")
        self._board: Any = None

    def __enter__(self) -> "RunLog":
        if self._is_main:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # tensorboard's own imports
                from torch.utils.tensorboard import SummaryWriter
            with explained(self._folder):
                self._board = SummaryWriter(str(self._folder), purge_step=self._epoch + 1)
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._board is not None:
            self._board.close()

    def begin_epoch(self, title: str, done: int) -> None:
        """`done`: the weighted steps finished before."""
        self._images, self._started = 0, time.monotonic()
        self._bar.update(self._task, description=title, completed=done)

    def step(self, loss: float, images: int, weight: int) -> None:
        """Count one step with `images` photos over all processes."""
        self._images += images
        facts = f"loss {loss:.3f}  mAP {self._mean_ap}  {self.rate():.0f} images/s"
        self._bar.update(self._task, advance=weight, facts=facts)

    def rate(self) -> float:
        """Photos per second since the epoch began or was resumed; two views of a photo count once."""
        return self._images / max(time.monotonic() - self._started, 1e-9)

    def epoch(self, entry: dict[str, Any]) -> None:
        """Log one epoch; `entry` has at least epoch and mAP."""
        if not self._is_main:
            return
        self._mean_ap = f"{entry['mAP']:.3f}"
        entry = {key: round(value, 5) if isinstance(value, float) else value for key, value in entry.items()}
        with explained(self._history), self._history.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        for name, value in entry.items():
            if isinstance(value, int | float) and name != "epoch":
                self._board.add_scalar(name, value, entry["epoch"])
        shown = [f"{key} {entry[key]:.4f}" for key in _IN_LINE if key in entry]
        line = "  ".join([f"epoch {entry['epoch']}", *shown, f"{entry['images_per_second']:.0f} images/s"])
        self._console.print(line, highlight=False)
