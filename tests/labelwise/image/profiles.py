"""Hand-made ICC profiles, whose names and effects can be chosen independently."""

import struct

SRGB_COLORANTS = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
P3_COLORANTS = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
_IEC_61966 = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
SRGB_CURVE = struct.pack(">4sIHH5i", b"para", 0, 3, 0, *(round(65536 * value) for value in _IEC_61966))
_D50 = (0.9642, 1.0, 0.8249)


def gamma_curve(exponent: float) -> bytes:
    return struct.pack(">4sIIHxx", b"curv", 0, 1, round(256 * exponent))


def rgb_profile(
    name: str, colorants: tuple[tuple[float, ...], ...], curve: bytes, cicp: tuple[int, int] | None = None
) -> bytes:
    tags = {
        **{kind: _xyz(colorant) for kind, colorant in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    if cicp:
        tags[b"cicp"] = struct.pack(">4sI4B", b"cicp", 0, *cicp, 0, 1)
    return _profile(name, b"RGB ", tags)


def grey_profile(name: str, curve: bytes) -> bytes:
    return _profile(name, b"GRAY", {b"kTRC": curve})


def cmyk_profile(black: float) -> bytes:
    """A press whose paper is white and whose inks, any of them in full, all give the same black, of lightness L*."""
    nodes = bytes([255, 128, 128]) + bytes([round(black * 2.55), 128, 128]) * 15  # L* a* b* of 2x2x2x2 mixtures
    ramp = bytes(range(256))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = struct.pack(">4sI4B", b"mft1", 0, 4, 3, 2, 0) + identity + 4 * ramp + nodes + 3 * ramp
    return _profile("A press", b"CMYK", {b"A2B0": table}, connection=b"Lab ", version=0x02400000, kind=b"prtr")


def _profile(
    name: str,
    space: bytes,
    tags: dict[bytes, bytes],
    kind: bytes = b"mntr",
    connection: bytes = b"XYZ ",
    version: int = 0x04400000,
) -> bytes:
    words = name.encode("utf-16-be")
    tags = {b"desc": struct.pack(">4s3I4s2I", b"mluc", 0, 1, 12, b"enUS", len(words), 28) + words, **tags}
    tags[b"wtpt"] = _xyz(_D50)
    table, bodies, start = b"", b"", 132 + 12 * len(tags)
    for tag, body in tags.items():
        table += struct.pack(">4sII", tag, start + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x12s48x", start + len(bodies), version, kind, space, connection, b"acsp", _xyz(_D50)[8:]
    )
    return header + struct.pack(">I", len(tags)) + table + bodies


def _xyz(values: tuple[float, ...]) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(65536 * value) for value in values))
