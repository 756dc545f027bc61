"""The messages between a gateway and its decoder processes, over two pipes.

In both directions: a head, then JSON, then raw bytes (a photo one way, pixels the other). No pickles: a decoder that a
photo has taken over must not run code in the gateway. The gateway answers a HOLD with one byte.
"""

import json
import struct
from enum import IntEnum
from typing import Any

_HEAD = struct.Struct("<BII")  # kind, bytes of JSON, bytes of content
HEAD_SIZE = _HEAD.size
GRANTED, DENIED = b"g", b"d"


class Kind(IntEnum):
    JOB = 0  # to the decoder: a photo and what to do with it
    READY = 1  # from the decoder: it has started
    HOLD = 2  # from the decoder: it waits for room for so many pixels
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
