"""The messages between a gateway and its decoder processes, over two pipes, and the limits that each job states.

In both directions: a head, then JSON, then raw bytes (a photo one way, pixels the other). No pickles: a decoder that a
photo has taken over must not run code in the gateway. The gateway answers a HOLD with one byte.
"""

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

_HEAD = struct.Struct("<BII")  # kind, bytes of JSON, bytes of content
HEAD_SIZE = _HEAD.size
GRANTED, DENIED = b"g", b"d"


class Kind(IntEnum):
    JOB = 0  # to the decoder: a photo and what to do with it
    READY = 1  # from the decoder: it has started
    HOLD = 2  # from the decoder: it waits for room for this many pixels
    DONE = 3  # from the decoder: the pixels
    FAILED = 4  # from the decoder: why there are none


def pack(kind: Kind, said: Any, content_size: int = 0) -> bytes:
    """Returns a message without its content, which follows."""
    text = json.dumps(said).encode()
    return _HEAD.pack(kind, len(text), content_size) + text


def unpack_head(head: bytes | bytearray) -> tuple[Kind, int, int]:
    """Returns the kind, and the sizes of the JSON and the content that follow."""
    kind, text_size, content_size = _HEAD.unpack(head)
    return Kind(kind), text_size, content_size


@dataclass(frozen=True)
class Limits:
    """What one photo may cost a decoder, by its bytes and pixels.

    Processor time in seconds, memory in bytes above what an idle decoder holds. Photographs stay far below: on a CPU of
    2024 decoding takes 0.01 to 0.2 µs per pixel, and opening a file a millisecond. Only a file that was made to be
    slow, or a decoder with a bug, exceeds the limits.
    """

    seconds: float = 1.0
    seconds_per_byte: float = 1e-7
    seconds_per_pixel: float = 1e-6
    memory: int = 256 * 2**20
    memory_per_byte: int = 8
    memory_per_pixel: int = 32

    def time(self, size: int, pixels: int) -> float:
        """Returns the seconds for a file of `size` bytes of which `pixels` are held decoded."""
        return self.seconds + self.seconds_per_byte * size + self.seconds_per_pixel * pixels

    def space(self, size: int, pixels: int) -> int:
        """Returns the bytes for the same."""
        return self.memory + self.memory_per_byte * size + self.memory_per_pixel * pixels
