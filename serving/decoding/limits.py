"""What one photo may cost a decoder process: processor time and memory, by its bytes and pixels.

Photographs stay far below: on a CPU of 2024 decoding takes 0.01 to 0.2 µs per pixel, and opening a file a millisecond.
Only a file that was made to be slow, or a decoder with a bug, exceeds the limits.
"""

from dataclasses import dataclass

_MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Processor time in seconds, memory in bytes above what an idle decoder holds."""

    seconds: float = 1.0
    seconds_per_byte: float = 1e-7
    seconds_per_pixel: float = 1e-6
    memory: int = 256 * _MIB
    memory_per_byte: int = 8
    memory_per_pixel: int = 32

    def time(self, size: int, pixels: int) -> float:
        """Returns the seconds for a file of `size` bytes of which `pixels` are held decoded."""
        return self.seconds + self.seconds_per_byte * size + self.seconds_per_pixel * pixels

    def space(self, size: int, pixels: int) -> int:
        """Returns the bytes for the same."""
        return self.memory + self.memory_per_byte * size + self.memory_per_pixel * pixels
