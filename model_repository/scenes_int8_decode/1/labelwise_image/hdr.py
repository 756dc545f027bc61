"""Converts HDR pixels (PQ and HLG) to SDR, as ITU-R recommends.

PQ is absolute; HLG is shown as on the reference display of 1000 cd/m2 (BT.2100, tables 4 and 5). The HDR reference
white, 203 cd/m2 (BT.2408, table 1), becomes SDR's white, so a picture that is no brighter equals its SDR version. If
it is brighter, the EETF of BT.2390 (section 5.4.1) rolls off the highlights, and the brightest part becomes white. The
EETF is applied to the largest of the three channels, which keeps the hues.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .cicp import HLG, PRIMARIES, SRGB_PRIMARIES, Cicp, adapted, srgb_encoded, to_xyz

Floats = NDArray[np.float32]

_WHITE = 203.0  # cd/m2
_HLG_DISPLAY, _HLG_GAMMA = 1000.0, 1.2
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # SMPTE ST 2084
_A = 0.17883277  # ARIB STD-B67
_B, _C = 1 - 4 * _A, 0.5 - _A * float(np.log(4 * _A))
_BELOW_PEAK = 0.999  # of the pixels; a sparkle must not darken the rest
_SAMPLED = 256  # pixels per side
_AT_ONCE = 2**19  # pixels; a large picture would take a gigabyte as floats
_LAST = 4095  # index of the tables that are looked up by light
_ENCODED = (srgb_encoded(np.linspace(0, 1, _LAST + 1)) * 255).round().astype(np.uint8)


def to_sdr(image: Image.Image, space: Cicp) -> Image.Image:
    """Converts an RGB image in the HDR colour space `space` to sRGB."""
    signal = np.linspace(0, 1, 256)
    curve = (_hlg_scene(signal) if space.transfer == HLG else _pq_light(signal)).astype(np.float32)
    peak = _peak(image, curve, space)
    to_srgb, gains = _to_srgb_primaries(space.primaries), _gains(peak)
    shown = Image.new("RGB", image.size)
    rows = max(1, _AT_ONCE // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        light = _display_light(curve[np.asarray(image.crop(box))], space) @ to_srgb  # h w c
        light *= gains[_index(light.max(-1, keepdims=True) / max(peak, 1))]
        shown.paste(Image.fromarray(_ENCODED[_index(light)]), box)
    return shown


def _index(share: Floats) -> NDArray[np.uint16]:
    """Turns shares, 0 to 1, into indices of a table of light."""
    return (share * _LAST + 0.5).clip(0, _LAST).astype(np.uint16)


def _peak(image: Image.Image, curve: Floats, space: Cicp) -> float:
    """Estimates from a sample the light that nearly all pixels stay below in every channel."""
    sample = image.resize((min(image.width, _SAMPLED), min(image.height, _SAMPLED)), Image.Resampling.NEAREST)
    return float(np.quantile(_display_light(curve[np.asarray(sample)], space).max(-1), _BELOW_PEAK))


def _display_light(light: Floats, space: Cicp) -> Floats:
    """Turns light [..., 3] from the transfer curve into light on the display, where SDR's white is 1."""
    if space.transfer != HLG:
        return light / np.float32(_WHITE)
    weights = to_xyz(PRIMARIES[space.primaries])[1].astype(np.float32)
    luminance = (light @ weights)[..., np.newaxis]
    shown: Floats = light * luminance ** np.float32(_HLG_GAMMA - 1) * np.float32(_HLG_DISPLAY / _WHITE)
    return shown


def _to_srgb_primaries(primaries: int) -> Floats:
    """Returns the matrix [3, 3] to multiply rows of linear RGB by, from the right."""
    target = to_xyz(SRGB_PRIMARIES)
    return np.linalg.solve(target, adapted(to_xyz(PRIMARIES[primaries]), target.sum(1))).T.astype(np.float32)


def _gains(peak: float) -> Floats:
    """Returns a table of the factors that the EETF applies to light from 0 to `peak`; SDR's white is 1."""
    if peak <= 1:
        return np.ones(_LAST + 1, np.float32)
    light = np.linspace(0, peak, _LAST + 1)[1:] * _WHITE
    scale = _pq_signal(peak * _WHITE)
    shown = _pq_light(scale * _rolled_off(_pq_signal(light) / scale, _pq_signal(_WHITE) / scale))
    return np.concatenate([[1], shown / light]).astype(np.float32)


def _rolled_off(signal: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """The EETF: `signal` is a share of the peak, of which `most` can be shown. It is unchanged below the knee."""
    knee = 1.5 * most - 0.5
    t = ((signal - knee) / (1 - knee)).clip(0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return np.where(signal < knee, signal, spline)


def _hlg_scene(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turns a signal into the scene's light, both 0 to 1."""
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12)


def _pq_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turns a signal, 0 to 1, into cd/m2."""
    power = signal ** (1 / _M2)
    light: NDArray[np.float64] = 10_000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return light


def _pq_signal(light: Any) -> Any:
    """The inverse of `_pq_light`."""
    power = (light / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
