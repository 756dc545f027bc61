"""Labelled photos: from any layout to the batches of a training step."""

from training.data.eval_batches import EvalBatches
from training.data.labelled_data import ABSENT, PRESENT, UNKNOWN, LabelledData, LabelledPhotos
from training.data.layouts import read_as_trained, read_data
from training.data.photo_check import check_photos
from training.data.shard_reader import ShardedPhotos
from training.data.shard_writer import write_shards
from training.data.train_loader import FileLoader, LoaderSettings, ShardLoader, make_train_loader

__all__ = [
    "ABSENT",
    "PRESENT",
    "UNKNOWN",
    "EvalBatches",
    "FileLoader",
    "LabelledData",
    "LabelledPhotos",
    "LoaderSettings",
    "ShardLoader",
    "ShardedPhotos",
    "check_photos",
    "make_train_loader",
    "read_as_trained",
    "read_data",
    "write_shards",
]
