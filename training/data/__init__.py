"""Labelled photos, from whatever layout they come in to the batches a training step takes."""

from training.data.eval_batches import EvalBatches
from training.data.file_loader import FileLoader
from training.data.labelled_data import ABSENT, PRESENT, UNKNOWN, LabelledData, LabelledPhotos
from training.data.layouts import read_data
from training.data.photo_check import check_photos, decode_all
from training.data.shard_loader import ShardLoader, make_train_loader
from training.data.shard_reader import ShardedPhotos
from training.data.shard_writer import write_shards

__all__ = [
    "ABSENT",
    "PRESENT",
    "UNKNOWN",
    "EvalBatches",
    "FileLoader",
    "LabelledData",
    "LabelledPhotos",
    "ShardLoader",
    "ShardedPhotos",
    "check_photos",
    "decode_all",
    "make_train_loader",
    "read_data",
    "write_shards",
]
