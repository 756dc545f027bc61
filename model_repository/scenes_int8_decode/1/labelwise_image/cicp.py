"""Colour spaces by number: the code points of ITU-T H.273 (CICP), which PNG, AVIF, HEIF and ICC profiles carry."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Chromaticities = tuple[float, float, float, float, float, float, float, float]  # x, y of white, red, green, blue

UNSPECIFIED, PQ, HLG = 2, 16, 18

_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
SRGB_PRIMARIES: Chromaticities = (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
_SMPTE_170M: Chromaticities = (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
PRIMARIES: dict[int, Chromaticities] = {  # H.273, table 2
    1: SRGB_PRIMARIES,
    UNSPECIFIED: SRGB_PRIMARIES,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: _SMPTE_170M,
    7: _SMPTE_170M,
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (1 / 3, 1 / 3, 1, 0, 0, 1, 0, 0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}


def gamma(exponent: float) -> Curve:
    """Returns the curve of a display with this exponent."""
    return lambda signal: signal**exponent


def srgb(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """IEC 61966-2-1: turns encoded values, 0 to 1, into linear light."""
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def srgb_encoded(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `srgb`."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _smpte_240m(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(signal < 0.0912, signal / 4, ((signal + 0.1115) / 1.1115) ** (1 / 0.45))


# H.273, table 3. BT.709 and its relatives define a camera's curve, not a display's; as in browsers, they count as sRGB.
CURVES: dict[int, Curve] = {
    **dict.fromkeys((1, UNSPECIFIED, 6, 11, 12, 13, 14, 15), srgb),
    4: gamma(2.2),
    5: gamma(2.8),
    7: _smpte_240m,
    8: gamma(1.0),
    9: lambda signal: np.where(signal > 0, 10 ** (2 * (signal - 1)), 0.0),
    10: lambda signal: np.where(signal > 0, 10 ** (2.5 * (signal - 1)), 0.0),
    17: lambda signal: signal**2.6 * (52.37 / 48),
}


class Cicp(NamedTuple):
    """Colour primaries and transfer characteristics. The decoder applies the matrix and the range."""

    primaries: int
    transfer: int

    @property
    def is_hdr(self) -> bool:
        return self.transfer in (PQ, HLG)

    @property
    def is_known(self) -> bool:
        return self.primaries in PRIMARIES and (self.is_hdr or self.transfer in CURVES)


def to_xyz(chromaticities: Chromaticities) -> NDArray[np.float64]:
    """Returns the matrix [3, 3] from linear RGB to CIE XYZ. White has Y = 1."""
    points = np.array(chromaticities).reshape(4, 2)
    white, *primaries = np.column_stack([points, 1 - points.sum(1)])  # x y -> x y z
    columns = np.stack(primaries, 1)
    scaled: NDArray[np.float64] = columns * np.linalg.solve(columns, white / white[1])
    return scaled


_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def adapted(matrix: NDArray[np.float64], white: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns `matrix` [3, 3] (RGB to XYZ) adapted to another `white` [3], as in ICC.1, annex E."""
    cones = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ white / (_BRADFORD @ matrix.sum(1))) @ _BRADFORD
    result: NDArray[np.float64] = cones @ matrix
    return result
