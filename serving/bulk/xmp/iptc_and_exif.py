"""Adds to a new sidecar what a photo says in IPTC and EXIF and not in its XMP.

A program that finds a sidecar reads these properties only there. The mapping is that of the Metadata Working Group's
guidelines, section 5.
"""

import re
import struct
from collections.abc import Iterator, Sequence

from serving.bulk.xmp.keywords import KEYWORD_LISTS, add_keywords
from serving.bulk.xmp.packet import Packet, words
from serving.bulk.xmp.photo_metadata import Metadata

_KEYWORDS = (2, 25)
_CUT = 60  # bytes: IIM 4.2 cuts a keyword at 64, or a little before, within a character
_TEXTS = {  # IPTC's record and data set -> property
    (2, 105): "photoshop:Headline",
    (2, 85): "photoshop:AuthorsPosition",
    (2, 110): "photoshop:Credit",
    (2, 115): "photoshop:Source",
    (2, 40): "photoshop:Instructions",
    (2, 90): "photoshop:City",
    (2, 95): "photoshop:State",
    (2, 101): "photoshop:Country",
    (2, 103): "photoshop:TransmissionReference",
    (2, 122): "photoshop:CaptionWriter",
    (2, 92): "Iptc4xmpCore:Location",
    (2, 100): "Iptc4xmpCore:CountryCode",
}
# Property -> IPTC's data sets and EXIF's tags, the best first. Those from 0x9C9B on are Windows Explorer's.
_TITLE, _DESCRIPTION, _CREATOR, _RIGHTS = "dc:title", "dc:description", "dc:creator", "dc:rights"
_LANGUAGES = {
    _TITLE: ((2, 5), (0x9C9B,)),
    _DESCRIPTION: ((2, 120), (0x010E, 0x9C9C)),
    _RIGHTS: ((2, 116), (0x8298,)),
}
_BY_LINE, _ARTISTS, _XP_KEYWORDS = (2, 80), (0x013B, 0x9C9D), 0x9C9E
_RATING, _RATING_PERCENT = 0x4746, 0x4749
_USER_COMMENT = 0x9286
_CHARACTERS = (1, 90)
_UTF_8 = b"\x1b%G"
_MOST_WORDS = 10_000
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Iptc = dict[tuple[int, int], list[str]]


def add_legacy(packet: Packet, found: Metadata) -> None:
    """Add the properties that a packet lacks. Raises PacketError."""
    iptc, exif = read_iptc(found.iptc), found.exif
    for name, (data_set, tags) in _LANGUAGES.items():
        told = [text for tag in tags for text in _exif_text(exif.get(tag))][:1]
        if name == _DESCRIPTION:  # darktable shows the comment, others the description
            comments = _user_comment(exif.get(_USER_COMMENT), found.exif_is_big_endian)
            told = ["\n".join(dict.fromkeys([*told, *comments]))] if comments else told
        texts = [*iptc.get(data_set, ())[:1], *told]
        if texts and not packet.has(name):
            packet.add_text(name, texts[0], has_language=True)
    creators = next(filter(None, (_split(exif.get(tag)) for tag in _ARTISTS)), iptc.get(_BY_LINE))
    if creators and not packet.has(_CREATOR):
        packet.add_list(_CREATOR, creators, "Seq")
    for data_set, name in _TEXTS.items():
        if data_set in iptc and not packet.has(name):
            packet.add_text(name, iptc[data_set][0])
    rating = _rating(exif)
    if rating is not None and not packet.has("xmp:Rating"):
        packet.add_text("xmp:Rating", str(rating))
    keywords = [*_uncut(iptc.get(_KEYWORDS, ()), packet), *_split(exif.get(_XP_KEYWORDS))]
    add_keywords(packet, keywords[:_MOST_WORDS])


def _uncut(keywords: Sequence[str], packet: Packet) -> list[str]:
    """Leaves out keywords that IPTC has cut short and that the XMP has whole."""
    whole = [word for bag in packet.containers(KEYWORD_LISTS[0]) for word in words(bag)]
    return [
        keyword
        for keyword in keywords
        if len(keyword.encode()) < _CUT or not any(word.startswith(keyword) for word in whole)
    ]


def read_iptc(blocks: list[bytes]) -> Iptc:
    """The texts of IIM records by record and data set."""
    fields = [field for block in blocks for field in _iptc_fields(block)]
    is_utf_8 = any(key == _CHARACTERS and value.startswith(_UTF_8) for key, value in fields)
    texts: Iptc = {}
    for key, value in fields:
        text = _clean(_decoded(value, is_utf_8))
        if text:
            listed = texts.setdefault(key, [])
            listed += [text] if text not in listed else []
    return texts


def _iptc_fields(block: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """IIM 4.2, section 1.5: marker, record, data set, length, value. Ends at the first broken one."""
    at = 0
    while at + 5 <= len(block) and block[at] == 0x1C:
        record, data_set, length = struct.unpack_from(">BBH", block, at + 1)
        at += 5
        if length & 0x8000:  # the other bits say how many bytes hold the length
            width = length & 0x7FFF
            length = int.from_bytes(block[at : at + width], "big") if width <= 4 else len(block)
            at += width
        if at + length > len(block):
            return
        yield (record, data_set), block[at : at + length]
        at += length


def _decoded(value: bytes, is_utf_8: bool) -> str:
    """Tries UTF-8 first: many programs write it without a mark, and few Latin-1 texts are valid UTF-8."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        if is_utf_8 or not value[: error.start].isascii():  # it is UTF-8, perhaps cut within a character
            return value.decode("utf-8", "replace").rstrip("\ufffd")
        return value.decode("cp1252", "replace")


def _clean(text: str) -> str:
    """The text without the characters that XML cannot hold."""
    return _NO_XML.sub("", text).strip()


def _exif_text(value: object) -> list[str]:
    """The text of a tag, if it has one. Windows' tags hold UTF-16 as bytes; Pillow reads the others as Latin-1."""
    if isinstance(value, tuple) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        value = bytes(value)
    if isinstance(value, bytes):
        text = value.decode("utf-16-le", "replace")
    elif isinstance(value, str):
        raw = value.encode("latin-1", "replace")
        text = _decoded(raw, is_utf_8=False)
    else:
        return []
    return list(filter(None, [_clean(text.partition("\0")[0])]))


def _split(value: object) -> list[str]:
    return [name.strip() for text in _exif_text(value) for name in text.split(";") if name.strip()]


def _user_comment(value: object, is_big_endian: bool) -> list[str]:
    """EXIF 2.32, UserComment: eight bytes name the encoding."""
    if not isinstance(value, bytes):
        return []
    kind, text = value[:8], value[8:]
    if kind == b"UNICODE\0":
        # The byte order should be that of the EXIF block, but many programs write the other. Most high bytes are 0.
        is_big = text[::2].count(0) > text[1::2].count(0) if text.count(0) else is_big_endian
        decoded = text.decode("utf-16-be" if is_big else "utf-16-le", "replace")
    elif kind == b"ASCII\0\0\0":
        decoded = _decoded(text, is_utf_8=False)
    else:
        return []
    return list(filter(None, [_clean(decoded.partition("\0")[0])]))


def _rating(exif: dict[int, object]) -> int | None:
    stars, percent = exif.get(_RATING), exif.get(_RATING_PERCENT)
    if isinstance(stars, int):
        return stars if stars <= 5 else None
    return round(percent / 25) + 1 if isinstance(percent, int) and 0 < percent <= 100 else None
