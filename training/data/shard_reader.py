"""Reads labelled photos from WebDataset shards as a stream: they need not be, or fit, on this machine.

A data set is a folder, local or behind a URL. Its dataset.json lists the shards train-000000.tar, … A shard holds two
files per photo: 000000012.jpg, its original bytes, and 000000012.json with its name and its present and unknown labels.
train-targets.npy and val-targets.npy hold the same labels as int8 [n, l], in the order of the photos.
"""

import hashlib
import io
import json
import re
import tarfile
import urllib.error
import urllib.request
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from labelwise.errors import DataError
from labelwise.label_names import some
from labelwise.spec import DataSpec
from training.data.decode import ordered_map
from training.data.labelled_data import EncodedPhoto, LabelledData, counted, label_columns

INDEX_FILE = "dataset.json"

# Only names of files beside dataset.json: a list from elsewhere must not name other places or commands.
_FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
_SECONDS_TO_ANSWER = 30
# curl's exit codes, from its manual.
_CURL_SAYS = {
    6: "there is no such host",
    7: "the server does not answer",
    18: "the server stopped half-way",
    22: "the server does not have it, or refuses it",
    28: "the server does not answer in time",
    35: "no secure connection can be made",
    56: "the server stopped half-way",
    60: "the server's certificate is not trusted",
}


class _IndexModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardEntry(_IndexModel):
    file: _FileName
    photos: int = Field(ge=1)
    bytes: int = Field(ge=1)


class SplitEntry(_IndexModel):
    targets: _FileName
    present: dict[str, int]
    shards: tuple[ShardEntry, ...] = Field(min_length=1)


class ShardIndex(_IndexModel):
    """dataset.json; `fingerprint` is that of the data that the shards were written from."""

    format: Literal[1] = 1
    labels: tuple[str, ...] = Field(min_length=1)
    fingerprint: str
    train: SplitEntry
    val: SplitEntry


@dataclass(frozen=True)
class Shard:
    """One tar of `photos` photos; `first` is the number of its first photo in its split."""

    url: str
    photos: int
    bytes: int
    first: int


@dataclass(frozen=True)
class Sample(EncodedPhoto):
    """One photo of a shard, with its labels."""

    present: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class ShardedPhotos:
    """A split in shards. Has the length, targets and encoded photos of LabelledPhotos, but no files."""

    labels: tuple[str, ...]
    shards: tuple[Shard, ...]
    targets_url: str
    columns: tuple[int, ...]  # of `labels` in the stored targets

    def __len__(self) -> int:
        return sum(shard.photos for shard in self.shards)

    def encoded(self, rows: Sequence[int]) -> Iterator[EncodedPhoto]:
        """The photos at `rows`, which ascend; opens only the shards that hold some of them."""
        for shard in self.shards:
            held = rows[bisect_left(rows, shard.first) : bisect_left(rows, shard.first + shard.photos)]
            if held:
                for sample in read_rows([shard], held[0] - shard.first, held[-1] - shard.first + 1):
                    if sample.row in held:
                        yield sample

    @cached_property
    def targets(self) -> NDArray[np.float32]:
        """float32 [n, l], fetched at the first access. Raises DataError."""
        try:
            with _open(self.targets_url) as stream:
                stored = np.load(io.BytesIO(stream.read()), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{self.targets_url} cannot be read: {_reason(error)}.") from error
        if stored.ndim != 2 or len(stored) != len(self):
            raise DataError(f"{self.targets_url} does not fit the {counted(len(self), 'photo')} of its shards.")
        return stored[:, list(self.columns)].astype(np.float32)


@dataclass(frozen=True)
class ShardedData(LabelledData):
    """A data set whose splits are in shards. Its labels were counted when they were written."""

    train: ShardedPhotos
    val: ShardedPhotos
    description: DataSpec

    def describe(self) -> DataSpec:
        return self.description

    def select(self, labels: Sequence[str]) -> "ShardedData":
        columns = label_columns(self.labels, labels)
        if tuple(labels) == self.labels:
            return self
        train, val = (
            replace(split, labels=tuple(labels), columns=tuple(split.columns[c] for c in columns))
            for split in (self.train, self.val)
        )
        counts = {label: self.description.train_counts[label] for label in labels}
        digest = hashlib.sha256("\n".join([self.description.fingerprint, *labels]).encode()).hexdigest()
        description = self.description.model_copy(update={"fingerprint": digest, "train_counts": counts})
        return replace(self, labels=tuple(labels), train=train, val=val, description=description)


def is_url(source: str) -> bool:
    return bool(re.match(r"pipe:|[a-z][a-z0-9+.-]+://", source))


def open_sharded(source: str) -> ShardedData:
    """Read the data set at `source`, the path or URL of its folder or its dataset.json. Raises DataError.

    webdataset opens URLs (with curl for http and https). For anything else there is `pipe:` with a command that writes
    the file {} of the folder to its output: "pipe:ssh host cat /data/{}".
    """
    if source.startswith("pipe:") and "{}" not in source:
        raise DataError(f"{source} must have {{}} in place of the name of a file.")
    try:
        with _open(_beside(source, INDEX_FILE)) as stream:
            index = ShardIndex.model_validate_json(stream.read())
    except OSError as error:
        raise DataError(f"{_beside(source, INDEX_FILE)} cannot be read: {_reason(error)}.") from error
    except ValueError as error:
        raise DataError(f"{source} is not a list of shards from `labelwise shards`: {_reason(error)}.") from error
    train, val = (_photos(source, index.labels, entry) for entry in (index.train, index.val))
    description = DataSpec(
        fingerprint=index.fingerprint,
        train_images=len(train),
        val_images=len(val),
        train_counts={label: index.train.present.get(label, 0) for label in index.labels},
    )
    return ShardedData(index.labels, train, val, description)


def check_shards(data: ShardedData) -> None:
    """Raises DataError, which names every shard that is missing or of a wrong size, if its server tells the size."""
    shards = (*data.train.shards, *data.val.shards)
    if faults := [text for text in ordered_map(_fault, shards) if text]:
        raise DataError(f"{counted(len(faults), 'shard')} cannot be used: {some(faults)}.")


def read_rows(shards: Sequence[Shard], start: int, stop: int) -> Iterator[Sample]:
    """The photos `start` to `stop` of the shards laid end to end. Opens only the shards that hold some of them."""
    first = 0
    for shard in shards:
        if max(first, start) < min(first + shard.photos, stop):
            with closing(_read_shard(shard)) as samples:
                for row, sample in enumerate(samples, first):
                    if row >= stop:
                        break
                    if row >= start:
                        yield sample
        first += shard.photos


def _read_shard(shard: Shard) -> Iterator[Sample]:
    """Its photos in order. Raises DataError if it cannot be read, or does not hold as many as listed."""
    from webdataset.tariterators import group_by_keys, tar_file_expander  # it imports torch, which takes seconds

    count = 0
    try:
        with _open(shard.url) as stream:
            for entry in group_by_keys(tar_file_expander([{"url": shard.url, "stream": stream}])):
                yield _sample(entry, shard, count)
                count += 1
    except (OSError, tarfile.TarError, ValueError) as error:
        raise DataError(f"The shard {shard.url} cannot be read: {_reason(error)}.") from error
    if count != shard.photos:
        raise DataError(
            f"The shard {shard.url} holds {counted(count, 'photo')}, not {shard.photos}: fetch or write it again."
        )


def _sample(entry: dict[str, bytes], shard: Shard, place: int) -> Sample:
    (data,) = (value for key, value in entry.items() if key != "json" and not key.startswith("__"))
    told = json.loads(entry.get("json", b"{}"))
    name = str(told.get("image", entry["__key__"]))
    present, unknown = tuple(told.get("labels", ())), tuple(told.get("unknown", ()))
    return Sample(shard.first + place, name, f"{name} in {shard.url}", lambda: data, present, unknown)


def _photos(source: str, labels: tuple[str, ...], entry: SplitEntry) -> ShardedPhotos:
    shards: list[Shard] = []
    first = 0
    for shard in entry.shards:
        shards.append(Shard(_beside(source, shard.file), shard.photos, shard.bytes, first))
        first += shard.photos
    return ShardedPhotos(labels, tuple(shards), _beside(source, entry.targets), tuple(range(len(labels))))


def _beside(source: str, name: str) -> str:
    """The file `name` of the data set at `source`."""
    if source.startswith("pipe:"):
        return source.replace("{}", name)
    if not is_url(source):
        path = Path(source)
        return str((path.parent if path.name == INDEX_FILE else path) / name)
    return f"{source.removesuffix(INDEX_FILE).rstrip('/')}/{name}"


def _open(url: str) -> IO[bytes]:
    if not is_url(url):
        return Path(url).open("rb")
    from webdataset.gopen import gopen  # it imports torch, which takes seconds

    return gopen(url)


def _fault(shard: Shard) -> str | None:
    size = None
    try:
        if not is_url(shard.url):
            size = Path(shard.url).stat().st_size
        elif shard.url.startswith(("http://", "https://")):
            request = urllib.request.Request(shard.url, method="HEAD")
            with urllib.request.urlopen(request, timeout=_SECONDS_TO_ANSWER) as answer:
                size = int(answer.headers["Content-Length"] or shard.bytes)
    except FileNotFoundError:
        return f"{shard.url} (missing)"
    except urllib.error.HTTPError as error:
        return f"{shard.url} (HTTP {error.code})"
    except OSError as error:
        return f"{shard.url} ({_reason(error)})"
    return None if size in (None, shard.bytes) else f"{shard.url} ({size} bytes, not {shard.bytes})"


def _reason(error: Exception) -> str:
    """The reason in one line. webdataset appends streams and addresses to the arguments of its errors."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        error = error.reason
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error.args[0] if error.args else error).split())
    if ended := re.search(r": exit (-?\d+) \(read\)", text):  # how webdataset reports a failed command
        code = int(ended[1])
        known = _CURL_SAYS if text.startswith("((['curl'") else {}
        return known.get(code, f"its command ended with exit code {code}")
    return text or type(error).__name__
