"""A new sidecar has its photo's metadata, in every format, and nothing that is wrong outside the photo."""

import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, TiffImagePlugin

from serving.bulk.xmp.keywords import merge
from serving.bulk.xmp.new_packet import packet_of
from serving.bulk.xmp.packet import Packet, words
from tests.serving.bulk.xmp.photos_with_metadata import (
    FORMATS,
    PACKET,
    TITLE,
    bag,
    block,
    extended,
    iptc,
    jpeg,
    made,
    png,
    resources,
    segment,
    xmp,
)


def listed(packet: Packet, name: str) -> list[str]:
    return [word for container in packet.containers(name) for word in words(container)]


def one(packet: Packet, name: str) -> str | None:
    """The value of a simple property, as an attribute or as an element."""
    root = packet.root
    space = {"rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "own": name.rpartition("}")[0][1:]}
    local = name.rpartition("}")[2]
    found = root.xpath(f"//rdf:Description/@own:{local} | //rdf:Description/own:{local}/text()", namespaces=space)
    assert len(found) < 2
    return str(found[0]) if found else None


XMP = "{http://ns.adobe.com/xap/1.0/}"


@pytest.mark.parametrize("name", FORMATS)
def test_xmp_of_every_format(name: str, tmp_path: Path):
    packet = packet_of(made(name, tmp_path, PACKET))
    assert listed(packet, "dc:subject") == ["sea", "großer Hund"]
    assert listed(packet, "dc:title") == ["Größe"]
    assert (one(packet, f"{XMP}Rating"), one(packet, f"{XMP}Label")) == ("-1", "Red")
    assert one(packet, "{urn:mine}own") == "kept"
    assert Packet.parse(packet.to_bytes()).has("dc:title")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("packet", [b"", b"no XMP", PACKET[:300], b"<!DOCTYPE a><a/>", b"<a/>", b"\xff\xfe<"])
def test_broken_xmp_leaves_an_empty_sidecar(name: str, packet: bytes, tmp_path: Path):
    made_of = packet_of(made(name, tmp_path, packet))
    assert len(made_of.descriptions) == 1
    assert not made_of.has("dc:subject")


def test_files_without_metadata(tmp_path: Path):
    for content in (b"", b"GIF89a", b"\x89PNG\r\n\x1a\n\0\0\0\xffiTXt", b"not a photo"):
        (tmp_path / "a.jpg").write_bytes(content)
        assert not packet_of(str(tmp_path / "a.jpg")).has("dc:subject")
    with pytest.raises(OSError, match="No such file"):
        packet_of(str(tmp_path / "none.jpg"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "utf-32"])
def test_packets_in_every_encoding(encoding: str, tmp_path: Path):
    """Adobe's library also takes Latin-1 where UTF-8 should be, and so do the programs that use it."""
    text = PACKET.decode().replace("\ufeff", "").replace("sea", "sea\x0b")
    file = jpeg(tmp_path / "a.jpg", xmp=text.encode(encoding))
    assert listed(packet_of(file), "dc:subject") == ["sea ", "großer Hund"]


def test_other_shapes_of_xmp(tmp_path: Path):
    """As ExifTool writes it, a description for each name space; and keywords that are a text, or an attribute."""
    other = xmp(TITLE).decode().partition("<rdf:Description")[2].partition("</rdf:RDF>")[0]
    several = PACKET.replace(b"</rdf:RDF>", f"<rdf:Description{other}</rdf:RDF>".encode())
    several = several.replace(b'rdf:about=""', b'rdf:about="uuid:1"', 1).replace(b"xmpmeta", b"xapmeta")
    packet = packet_of(jpeg(tmp_path / "a.jpg", xmp=several))
    assert listed(packet, "dc:title") == ["Größe"]
    assert packet.to_bytes().count(b'rdf:about=""') == len(packet.descriptions)
    for inside, attributes in (("<dc:subject>sea</dc:subject>", ""), ("", 'dc:subject="sea"')):
        packet = packet_of(jpeg(tmp_path / "a.jpg", xmp=xmp(inside, attributes)))
        assert listed(packet, "dc:subject") == ["sea"]
    bare = b"<rdf:RDF" + PACKET.partition(b"<rdf:RDF")[2].partition(b"</x:xmpmeta>")[0]
    assert listed(packet_of(jpeg(tmp_path / "a.jpg", xmp=bare)), "dc:subject") == ["sea", "großer Hund"]


def test_extended_xmp_is_put_together(tmp_path: Path):
    guid = b"0123456789ABCDEF0123456789ABCDEF"
    main = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(TITLE, f'xmpNote:HasExtendedXMP="{guid.decode()}"'))
    parts = extended(xmp(bag("dc:subject", "sea") + TITLE.replace("Größe", "not this")), guid, [400, 300, 5000])
    for order in ([0, 1, 2], [2, 0, 1]):
        packet = packet_of(jpeg(tmp_path / "a.jpg", main, *(parts[at] for at in order)))
        assert listed(packet, "dc:subject") == ["sea"]
        assert listed(packet, "dc:title") == ["Größe"]
        assert b"HasExtendedXMP" not in packet.to_bytes()
    for broken in (parts[:2], parts[1:], [parts[0], parts[0], parts[2]]):
        packet = packet_of(jpeg(tmp_path / "a.jpg", main, *broken))
        assert not packet.has("dc:subject")
        assert listed(packet, "dc:title") == ["Größe"]
    other = extended(xmp(bag("dc:subject", "sea")), guid[::-1], [5000])
    assert not packet_of(jpeg(tmp_path / "a.jpg", main, *other)).has("dc:subject")


def test_properties_that_are_wrong_outside_the_photo_are_left_out(tmp_path: Path):
    history = bag("darktable:history", "exposure", kind="Seq")
    container = "<Container:Directory><rdf:Seq><rdf:li>0</rdf:li></rdf:Seq></Container:Directory>"
    thumbnail = f"<mine:preview>{'A' * 70_000}</mine:preview>"
    inside = bag("dc:subject", "sea", "was ours") + history + container + thumbnail + bag("labelwise:tags", "was ours")
    attributes = 'tiff:Orientation="6" tiff:Make="Maker" crs:Exposure2012="+1.0" crs:HasCrop="True" xmp:Rating="2"'
    packet = packet_of(jpeg(tmp_path / "a.jpg", xmp=b""))
    parts = extended(xmp(inside, attributes), b"0" * 32, [60_000, 60_000])
    main = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp("", f'xmpNote:HasExtendedXMP="{"0" * 32}"'))
    packet = packet_of(jpeg(tmp_path / "a.jpg", main, *parts))
    text = packet.to_bytes()
    assert listed(packet, "dc:subject") == ["sea"]
    assert one(packet, f"{XMP}Rating") == "2"
    assert b"Maker" in text
    for word in (b"Orientation", b"crs", b"darktable", b"Container", b"preview", b"labelwise", b"was ours"):
        assert word not in text, word


def test_colour_labels_of_darktable_are_kept(tmp_path: Path):
    """With its version, without which it ignores the title."""
    labels = bag("darktable:colorlabels", "2", "3", kind="Seq")
    packet = packet_of(jpeg(tmp_path / "a.jpg", xmp=xmp(labels, 'darktable:xmp_version="5" darktable:raw_params="0"')))
    assert listed(packet, "darktable:colorlabels") == ["2", "3"]
    assert one(packet, "{http://darktable.sf.net/}xmp_version") == "5"
    assert not packet.has("darktable:raw_params")
    packet = packet_of(jpeg(tmp_path / "a.jpg", xmp=xmp(labels)))
    assert b"darktable" not in packet.to_bytes()


@pytest.mark.parametrize(
    "block",
    [
        block("utf-8", (1, 90, b"\x1b%G")),
        block("utf-8"),
        block("latin-1"),
        block("utf-8") + b"\x1c\x02\x19\xff\xff",
        block("utf-8") + b"\x1c\x02\x78\x80\x04\0\0\0\x05abcde",
    ],
)
@pytest.mark.parametrize("kind", ["jpeg", "tiff", "tiff, 32-bit words", "tiff, photoshop", "png"])
def test_iptc_becomes_xmp(kind: str, block: bytes, tmp_path: Path):
    file = tmp_path / "a"
    if kind == "jpeg":
        jpeg(file, segment(0xED, b"Photoshop 3.0\0" + resources(block)))
    elif kind == "png":
        profile = b"\niptc\n  10\n" + resources(block).hex().encode()
        png(file, [(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(profile))])
    else:
        info = TiffImagePlugin.ImageFileDirectory_v2()
        padded = block + b"\0" * (-len(block) % 4)
        tags: dict[str, tuple[int, int, Any]] = {
            "tiff": (33723, 7, block),
            "tiff, 32-bit words": (65000, 4, struct.unpack(f"<{len(padded) // 4}I", padded)),
            "tiff, photoshop": (34377, 1, resources(block)),
        }
        number, info.tagtype[number], value = tags[kind]
        info[number] = value
        Image.new("RGB", (16, 16)).save(file, "TIFF", tiffinfo=info)
        file.write_bytes(file.read_bytes().replace(struct.pack("<H", 65000), struct.pack("<H", 33723)))
    packet = packet_of(str(file))
    assert listed(packet, "dc:subject") == ["sea", "großer Hund"]
    assert listed(packet, "dc:title") == ["Größe"]
    assert listed(packet, "dc:creator") == ["Ann", "Bob"]
    assert one(packet, "{http://ns.adobe.com/photoshop/1.0/}City") == "Köln"
    assert listed(packet, "dc:description") == (["abcde"] if block.endswith(b"abcde") else [])


def test_keywords_of_xmp_and_iptc_are_united_and_xmp_wins_otherwise(tmp_path: Path):
    inside = bag("dc:subject", "sea", "ship") + bag("lr:hierarchicalSubject", "water|sea", "ship", kind="Seq")
    packet = packet_of(
        jpeg(
            tmp_path / "a.jpg",
            segment(0xED, b"Photoshop 3.0\0" + resources(iptc((2, 25, b"sea"), (2, 25, b"port"), (2, 5, b"no")))),
            xmp=xmp(inside + TITLE),
        )
    )
    assert listed(packet, "dc:subject") == ["sea", "ship", "port"]
    assert listed(packet, "lr:hierarchicalSubject") == ["water|sea", "ship", "port"]  # or darktable would not see it
    assert listed(packet, "dc:title") == ["Größe"]


def test_exif_becomes_xmp(tmp_path: Path):
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x8298], exif[0x4746] = "A view", "Ann; Bob", "Mine", 4
    exif[0x9C9E] = "sea;großer Hund\0".encode("utf-16-le")
    packet = packet_of(jpeg(tmp_path / "a.jpg", exif=exif))
    assert listed(packet, "dc:description") == ["A view"]
    assert listed(packet, "dc:creator") == ["Ann", "Bob"]
    assert listed(packet, "dc:rights") == ["Mine"]
    assert listed(packet, "dc:subject") == ["sea", "großer Hund"]
    assert one(packet, f"{XMP}Rating") == "4"
    packet = packet_of(jpeg(tmp_path / "a.jpg", exif=exif, xmp=xmp(bag("dc:subject", "x"), 'xmp:Rating="0"')))
    assert one(packet, f"{XMP}Rating") == "0"
    assert listed(packet, "dc:subject") == ["x", "sea", "großer Hund"]


def test_user_comments_are_the_last_choice_for_a_description(tmp_path: Path):
    for comment in (
        b"ASCII\0\0\0a note\0\0",
        *(b"UNICODE\0" + "a note".encode(f"utf-16-{order}") for order in ("le", "be")),
    ):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = comment
        assert listed(packet_of(jpeg(tmp_path / "a.jpg", exif=exif)), "dc:description") == ["a note"], comment
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"\0" * 8 + b"   "
    assert not packet_of(jpeg(tmp_path / "a.jpg", exif=exif)).has("dc:description")


@pytest.mark.parametrize("name", [b"exif", b"APP1", b"eXIf"])
@pytest.mark.parametrize(
    "broken", [b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 4\nzz"), b"XML:com.adobe.xmp"]
)
def test_exif_of_a_png_however_it_is_stored(name: bytes, broken: bytes, tmp_path: Path):
    """As a chunk of its own, or as exiv2 and ImageMagick write it. A broken chunk before it changes nothing."""
    exif = Image.Exif()
    exif[0x013B], exif[0x4746] = "Ann", 4
    data = exif.tobytes()
    raw = b"Raw profile type " + name + b"\0\0" + zlib.compress(b"\nexif\n%8d\n%s\n" % (len(data), data.hex().encode()))
    chunk = (b"eXIf", data) if name == b"eXIf" else (b"zTXt", raw)
    png(tmp_path / "a.png", [(b"zTXt", broken), (b"iTXt", broken), (b"eXIf", b"II"), chunk])
    packet = packet_of(str(tmp_path / "a.png"))
    assert listed(packet, "dc:creator") == ["Ann"]
    assert one(packet, f"{XMP}Rating") == "4"


def test_xmp_of_a_png_as_imagemagick_stores_it(tmp_path: Path):
    data = b"http://ns.adobe.com/xap/1.0/\0" + PACKET
    raw = b"Raw profile type APP1\0\0" + zlib.compress(b"\napp1\n%8d\n%s\n" % (len(data), data.hex().encode()))
    png(tmp_path / "a.png", [(b"zTXt", raw)])
    assert listed(packet_of(str(tmp_path / "a.png")), "dc:subject") == ["sea", "großer Hund"]


def test_a_description_and_another_user_comment_are_both_kept(tmp_path: Path):
    """darktable shows only the comment of a photo, and digiKam and Lightroom only its description."""
    exif = Image.Exif()
    exif[0x010E] = "A view"
    for comment, expected in ((b"a note", "A view\na note"), (b"A view", "A view"), (b"  ", "A view")):
        exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + comment
        assert listed(packet_of(jpeg(tmp_path / "a.jpg", exif=exif)), "dc:description") == [expected]
    caption = segment(0xED, b"Photoshop 3.0\0" + resources(iptc((2, 120, b"caption"))))
    assert listed(packet_of(jpeg(tmp_path / "a.jpg", caption, exif=exif)), "dc:description") == ["caption"]


def test_the_creator_of_exif_comes_before_that_of_iptc(tmp_path: Path):
    """As in darktable and in the guidelines. IPTC cuts a name at 32 bytes."""
    by_line = segment(0xED, b"Photoshop 3.0\0" + resources(iptc((2, 80, b"Ann"))))
    exif = Image.Exif()
    assert listed(packet_of(jpeg(tmp_path / "a.jpg", by_line, exif=exif)), "dc:creator") == ["Ann"]
    exif[0x013B] = "Ann of Cleves; Bob"
    assert listed(packet_of(jpeg(tmp_path / "a.jpg", by_line, exif=exif)), "dc:creator") == ["Ann of Cleves", "Bob"]


@pytest.mark.parametrize("first", [(), ((1, 90, b"\x1b%G"),)])
def test_keywords_that_iptc_cut_are_not_added_beside_the_whole_ones(first: Any, tmp_path: Path):
    whole = "ä" * 40
    cut = [(2, 25, whole.encode()[:64]), (2, 25, whole.encode()[:63])]  # the second within a character
    block = resources(iptc(*first, *cut, (2, 25, "ä".encode()), (2, 25, b"gro")))
    photo = jpeg(tmp_path / "a.jpg", segment(0xED, b"Photoshop 3.0\0" + block), xmp=xmp(bag("dc:subject", whole)))
    assert listed(packet_of(photo), "dc:subject") == [whole, "ä", "gro"]
    photo = jpeg(tmp_path / "a.jpg", segment(0xED, b"Photoshop 3.0\0" + block))
    assert listed(packet_of(photo), "dc:subject") == ["ä" * 32, "ä" * 31, "ä", "gro"]


@pytest.mark.parametrize(
    "item",
    [
        "<rdf:li><rdf:Description><rdf:value>sea</rdf:value><mine:by>Ann</mine:by></rdf:Description></rdf:li>",
        '<rdf:li rdf:parseType="Resource">\n<rdf:value>s<!-- c -->ea</rdf:value>\n<mine:by>Ann</mine:by></rdf:li>',
    ],
)
def test_keywords_with_qualifiers(item: str, tmp_path: Path):
    """XMP specification, part 1, section 7.8."""
    both = f"<dc:subject><rdf:Bag>{item}<rdf:li>ship</rdf:li></rdf:Bag></dc:subject>"
    assert listed(packet_of(jpeg(tmp_path / "a.jpg", xmp=xmp(both))), "dc:subject") == ["sea", "ship"]
    there = Packet.parse(xmp(both))
    merge(there, ["sea", "trees"])
    assert listed(there, "dc:subject") == ["sea", "ship", "trees"]
    merge(there, [])
    assert b"Ann" in there.to_bytes()
    assert listed(there, "dc:subject") == ["sea", "ship"]
