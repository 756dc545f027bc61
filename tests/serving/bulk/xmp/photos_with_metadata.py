"""Small photos of every format with metadata inside, made by hand."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin, features

NAMES = """xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" xmlns:darktable="http://darktable.sf.net/"
 xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:mine="urn:mine"
 xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmlns:labelwise="urn:labelwise:xmp/1.0/\""""


def xmp(inside: str, attributes: str = "") -> bytes:
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" {NAMES} {attributes}>
{inside}</rdf:Description></rdf:RDF></x:xmpmeta>{" " * 200}<?xpacket end="w"?>""".encode()


def bag(name: str, *listed: str, kind: str = "Bag") -> str:
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in listed)
    return f"<{name}><rdf:{kind}>{items}</rdf:{kind}></{name}>"


TITLE = '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Größe</rdf:li></rdf:Alt></dc:title>'
PACKET = xmp(bag("dc:subject", "sea", "großer Hund") + TITLE, 'xmp:Rating="-1" xmp:Label="Red" mine:own="kept"')


def iptc(*fields: tuple[int, int, bytes]) -> bytes:
    return b"".join(struct.pack(">BBBH", 0x1C, record, number, len(value)) + value for record, number, value in fields)


def resources(block: bytes) -> bytes:
    """Photoshop's resources, with another one in front."""
    other = b"8BIM\x03\xed\x03abc" + struct.pack(">I", 3) + b"\x1c\x02\x19\0"
    return other + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block + b"\0" * (len(block) % 2)


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">HH", 0xFF00 | marker, len(data) + 2) + data


def jpeg(file: Path, *segments: bytes, **how: Any) -> str:
    Image.new("RGB", (16, 16)).save(file, "JPEG", **how)
    data = file.read_bytes()
    file.write_bytes(data[:2] + b"".join(segments) + data[2:])
    return str(file)


def png(file: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    """A PNG with the chunks behind the pixels."""
    Image.new("RGB", (16, 16)).save(file, "PNG")
    data = file.read_bytes()
    more = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    file.write_bytes(data[:-12] + more + data[-12:])


def save_png(file: Path, packet: bytes) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    Image.new("RGB", (16, 16)).save(file, pnginfo=info)


def save_png_behind(file: Path, packet: bytes) -> None:
    png(file, [(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet))])


def save_png_raw(file: Path, packet: bytes) -> None:
    profile = f"\nxmp\n{len(packet):8}\n{packet.hex()}\n".encode()
    png(file, [(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(profile))])


def save_gif(file: Path, packet: bytes) -> None:
    Image.new("P", (16, 16)).save(file)
    data = file.read_bytes()
    at = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    comment = b"\x21\xfe\x03abc\0"
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    file.write_bytes(data[:at] + comment + b"\x21\xff\x0bXMP DataXMP" + packet + trailer + data[at:])


def save_tiff(file: Path, packet: bytes) -> None:
    Image.new("RGB", (16, 16)).save(file, tiffinfo={700: packet})


def save(file: Path, packet: bytes) -> None:
    Image.new("RGB", (16, 16)).save(file, xmp=packet)


FORMATS: dict[str, tuple[str, Callable[[Path, bytes], None]]] = {
    "jpeg": ("jpg", save),
    "webp": ("webp", save),
    "avif": ("avif", save),
    "heic": ("heic", save),
    "tiff": ("tif", save_tiff),
    "gif": ("gif", save_gif),
    "png": ("png", save_png),
    "png, behind the pixels": ("png", save_png_behind),
    "png, raw profile": ("png", save_png_raw),
}


def made(name: str, folder: Path, packet: bytes) -> str:
    suffix, maker = FORMATS[name]
    if suffix == "heic":
        pytest.importorskip("pillow_heif")
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("Pillow is built without AVIF")
    maker(folder / f"photo.{suffix}", packet)
    return str(folder / f"photo.{suffix}")


def extended(packet: bytes, guid: bytes, sizes: list[int]) -> list[bytes]:
    segments, at = [], 0
    for size in sizes:
        head = b"http://ns.adobe.com/xmp/extension/\0" + guid + struct.pack(">II", len(packet), at)
        segments.append(segment(0xE1, head + packet[at : at + size]))
        at += size
    return segments


FIELDS = ((2, 5, "Größe"), (2, 25, "sea"), (2, 25, "großer Hund"), (2, 80, "Ann"), (2, 80, "Bob"), (2, 90, "Köln"))


def block(encoding: str, *first: tuple[int, int, bytes]) -> bytes:
    return iptc(*first, *((record, number, text.encode(encoding)) for record, number, text in FIELDS))
