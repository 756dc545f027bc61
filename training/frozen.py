"""Training with a frozen backbone: its features are computed once, kept in files, and read instead of photos."""

import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from labelwise.errors import DataError
from labelwise.files import left_aside, locked_folder, replacing
from labelwise.version import VERSION
from training.augment import make_transform
from training.checkpoint import explained, serialised
from training.config import TrainConfig
from training.data.decode import fault
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import LabelledData, LabelledPhotos
from training.data.shard_reader import ShardedPhotos
from training.data.train_loader import Batch, LoaderSettings, views_in_order
from training.evaluator import EVAL_BATCH
from training.model import TaggerNetwork
from training.seeding import derive_seed

FEATURES_FOLDER = "frozen-features"
# All seeds share the views, so that runs which differ only by their seed share the features, too.
_SEED_OF_VIEWS = 0
_AT_ONCE = 32  # views; with more, a processor's caches no longer hold the feature maps


class FrozenLoader:
    """Shuffled batches of features [n, v, t, c]; the same interface as FileLoader.

    Each epoch draws anew, for each photo, which of its views are taken. The draws depend only on seed and epoch.
    """

    def __init__(self, features: NDArray[np.float16], targets: NDArray[np.float32], batch_size: int, seed: int) -> None:
        self._features, self._targets, self._seed = features, targets, seed
        self._size = min(batch_size, len(features))

    def __len__(self) -> int:
        """Batches per epoch; the last, incomplete one is left out."""
        return len(self._features) // self._size

    def epoch(self, number: int, views: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the `skip`-th on.

        Yields float32 [b, views, t, c], with different views of a photo, and float32 targets [b, l].
        """
        chance = np.random.default_rng(derive_seed(self._seed, number, "order"))
        count, kept = self._features.shape[:2]
        order = chance.permutation(count)
        drawn = chance.permuted(np.tile(np.arange(kept), (count, 1)), axis=1)[:, :views]  # n v
        for batch in range(skip, len(self)):
            rows = order[batch * self._size : (batch + 1) * self._size]
            tokens = self._features[rows[:, None], drawn[rows]]  # n v t c -> b views t c
            yield torch.from_numpy(tokens).float(), torch.from_numpy(self._targets[rows])


@dataclass(frozen=True)
class FrozenVal:
    """Batches float32 [b, t, c] of val's features, in order; can be iterated any number of times."""

    features: NDArray[np.float32]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(self.features), EVAL_BATCH):
            yield np.array(self.features[start : start + EVAL_BATCH])  # in memory, as torch wants it


def frozen_batches(
    network: TaggerNetwork, config: TrainConfig, data: LabelledData, folder: Path, quiet: bool = False
) -> tuple[FrozenLoader, FrozenVal]:
    """What replaces the loaders of train and val if `network` has a frozen backbone.

    Computes the features that `folder` does not hold yet. Runs that share the folder compute them once: a second one
    waits. A file's name tells backbone, photos, image and augmentation, so features of others are never taken. Val is
    kept in full precision, so that its scores are those of the network.

    Raises DataError for a photo that cannot be decoded, and LabelwiseError if the files cannot be written.
    """
    augment, image = config.augment, config.image
    drawing = augment.model_dump_json(exclude={"mixup"})
    facts = (config.model.backbone, config.model.feature_level, image.model_dump_json())
    files = _FeatureFiles(network, facts, folder, quiet)
    settings = LoaderSettings(image, make_transform(augment, image), EVAL_BATCH, config.workers, _SEED_OF_VIEWS)
    views = views_in_order(data.train, augment.frozen_views, settings)
    photos = EvalBatches(data.val, image, EVAL_BATCH, cache="none")
    pixels = (torch.as_tensor(batch).permute(0, 3, 1, 2)[:, None] for batch in photos)  # b h w c -> b 1 c h w
    with explained(folder):
        folder.mkdir(exist_ok=True)
        with locked_folder(folder):
            train = files.kept("train", data.train, augment.frozen_views, np.dtype(np.float16), views, drawing)
            val = files.kept("val", data.val, 1, np.dtype(np.float32), pixels)
    return FrozenLoader(train, data.train.targets, config.batch_size, config.seed), FrozenVal(val[:, 0])


@dataclass(frozen=True)
class _FeatureFiles:
    """Features of `network`'s backbone, in .npy files of `folder`."""

    network: TaggerNetwork
    facts: tuple[object, ...]
    folder: Path
    quiet: bool

    def kept(
        self,
        split: str,
        photos: LabelledPhotos | ShardedPhotos,
        views: int,
        dtype: np.dtype,
        pixels: Iterable[torch.Tensor],
        drawing: str = "",
    ) -> NDArray:
        """The features [n, v, t, c] of `photos` in `pixels` uint8 [b, v, 3, h, w], mapped from their file."""
        file = self.folder / f"{split}-{self._fingerprint(photos, drawing)}.npy"
        try:
            return np.load(file, mmap_mode="r")
        except (OSError, ValueError, EOFError):  # there is none, or it is damaged
            pass
        for aside in left_aside(file):  # of a process that was killed: the living ones hold no lock
            aside.unlink()
        started = time.monotonic()
        batches = track(pixels, f"Computing features of {split}", -(-len(photos) // EVAL_BATCH), disable=self.quiet)
        self._write(file, (len(photos), views), dtype, batches)
        if not self.quiet:
            seconds = time.monotonic() - started
            print(f"Features of {split}: {len(photos)} photos x {views} views in {seconds:.0f} s.", flush=True)
        return np.load(file, mmap_mode="r")

    def _write(self, file: Path, shape: tuple[int, ...], dtype: np.dtype, pixels: Iterable[torch.Tensor]) -> None:
        """Write as a stream: a mapped file that meets a full disk would end the process."""
        aside = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
        with replacing(file, aside) as stream:
            for number, batch in enumerate(pixels):
                tokens = self._tokens(batch)
                if not number:
                    header = {"descr": dtype.str, "fortran_order": False, "shape": (*shape, *tokens.shape[2:])}
                    np.lib.format.write_array_header_1_0(stream, header)
                stream.write(tokens.astype(dtype).tobytes())

    @torch.inference_mode()
    def _tokens(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        """uint8 [b, v, 3, h, w] -> [b, v, t, c], in full precision, as evaluation computes them."""
        device = next(self.network.parameters()).device
        parts = [self.network.tokens(part.to(device)).cpu() for part in pixels.flatten(0, 1).split(_AT_ONCE)]
        return torch.cat(parts).unflatten(0, pixels.shape[:2]).numpy()  # (b v) t c -> b v t c

    def _fingerprint(self, photos: LabelledPhotos | ShardedPhotos, drawing: str) -> str:
        """Of everything that the features depend on."""
        digest = hashlib.sha256(serialised(self.network.backbone.state_dict()))
        for part in (VERSION, *self.facts, drawing, *_identities(photos)):
            digest.update(f"{part}\n".encode(errors="surrogatepass"))
        return digest.hexdigest()[:16]


def _identities(photos: LabelledPhotos | ShardedPhotos) -> Iterator[str]:
    """One line per file, which changes with its content. Raises DataError if a file is gone."""
    if isinstance(photos, ShardedPhotos):
        yield from (f"{shard.url} {shard.photos} {shard.bytes}" for shard in photos.shards)
        return
    for file in photos.files:
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(f"{file} cannot be decoded ({fault(error)}).") from error
        yield f"{file.absolute()} {status.st_size} {status.st_mtime_ns}"
