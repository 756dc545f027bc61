"""Labelled photos, from whatever layout they come in to the batches a training step takes."""

from training.data.check import check_photos, decode_all
from training.data.evaluation import EvalBatches
from training.data.formats import read_data
from training.data.labelled import ABSENT, PRESENT, UNKNOWN, LabelledData, Photos
from training.data.loader import TrainLoader
from training.data.sharded import ShardedPhotos, in_files
from training.data.shards import write_shards
from training.data.stream import StreamLoader, make_train_loader

__all__ = [
    "ABSENT",
    "PRESENT",
    "UNKNOWN",
    "EvalBatches",
    "LabelledData",
    "Photos",
    "ShardedPhotos",
    "StreamLoader",
    "TrainLoader",
    "check_photos",
    "decode_all",
    "in_files",
    "make_train_loader",
    "read_data",
    "write_shards",
]
