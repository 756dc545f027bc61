"""Makes the XMP of a new sidecar from the photo's own XMP, IPTC and EXIF.

A program that finds a sidecar no longer looks inside the photo for keywords, title, rating or colour label. So all of
the photo's XMP is copied, except what is wrong or useless outside the photo:

- development settings (Adobe's, darktable's): the photo has them applied, and a raw file beside it has its own
- orientation, size and coding of the file, and its editing history
- what points into the file (motion photos, depth and gain maps), thumbnails, and properties larger than 64 KiB in
  namespaces that are not listed in `packet`
"""

import logging
from collections.abc import Sequence

from lxml import etree

from serving.bulk.xmp.iptc_and_exif import add_legacy
from serving.bulk.xmp.keywords import KEYWORD_LISTS, add_keywords
from serving.bulk.xmp.packet import (
    NAMESPACES,
    Element,
    Packet,
    PacketError,
    add_item,
    indent,
    qualified,
    text_of,
    words,
)
from serving.bulk.xmp.photo_metadata import read_metadata

logger = logging.getLogger("labelwise.bulk")

_LARGEST = 64 * 2**10  # bytes
_NAMESPACES_LEFT_OUT = (  # beginnings of their URIs
    "http://ns.adobe.com/camera-raw-",
    "http://ns.adobe.com/hdr-gain-map/",
    "http://ns.adobe.com/hdr-metadata/",
    "http://ns.apple.com/HDRGainMap/",
    "http://ns.apple.com/pixeldatainfo/",
    "http://ns.google.com/photos/1.0/camera/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.google.com/photos/1.0/audio/",
    "http://ns.google.com/photos/dd/1.0/",
    NAMESPACES["xmpNote"],
    NAMESPACES["darktable"],
    NAMESPACES["labelwise"],
)
_OF_THE_FILE = {
    "tiff": "Orientation ImageWidth ImageLength BitsPerSample Compression PhotometricInterpretation SamplesPerPixel "
    "PlanarConfiguration YCbCrSubSampling YCbCrPositioning XResolution YResolution ResolutionUnit",
    "exif": "PixelXDimension PixelYDimension ColorSpace NativeDigest",
    "xmp": "Thumbnails PageInfo",
    "xmpMM": "History Pantry Ingredients Manifest",
    "photoshop": "DocumentAncestors SidecarForExtension ColorMode ICCProfile LegacyIPTCDigest",
}
_NAMES_LEFT_OUT = {qualified(f"{prefix}:{name}") for prefix, names in _OF_THE_FILE.items() for name in names.split()}
_OURS = f"{{{NAMESPACES['labelwise']}}}"
_XML = "{http://www.w3.org/XML/1998/namespace}"
# The second is the version of the first.
_COLOURS = {qualified("darktable:colorlabels"), qualified("darktable:xmp_version")}


def packet_of(file: str, others: Sequence[bytes] = ()) -> Packet:
    """A packet with the metadata of the photo in `file` and of `others`, its sidecars, which take precedence.

    Raises OSError if the photo cannot be read. Leaves out broken XMP: photo programs cannot read it either.
    """
    found, packet = read_metadata(file), Packet.new()
    for data in (*others, *found.xmp):
        try:
            _copy(Packet.parse(data, lenient=True), packet)
        except PacketError as error:
            logger.warning("%s: its XMP is not copied into the new sidecar, because it %s", file, error)
    _settle_colours(packet)
    add_legacy(packet, found)
    packet.first_description()
    etree.cleanup_namespaces(packet.root)
    indent(packet.root)
    return packet


def keywords_in(file: str) -> list[str]:
    """The flat keywords inside a photo. Raises OSError if it cannot be read."""
    return [word for bag in packet_of(file).containers(KEYWORD_LISTS[0]) for word in words(bag)]


def _copy(source: Packet, target: Packet) -> None:
    """Add the properties that `target` lacks, and unite the lists of keywords."""
    ours = {word for name in source.names if name.startswith(_OURS) for word in _words(source, name)}
    listed = {name: [word for word in _words(source, qualified(name)) if word not in ours] for name in KEYWORD_LISTS}
    seen = target.names | {qualified(name) for name in KEYWORD_LISTS}
    for description in source.descriptions:
        _trim(description, seen)
        if len(description) or len(description.attrib) > 1:
            target.rdf.append(description)
    for name, found in listed.items():
        if name == KEYWORD_LISTS[0]:
            add_keywords(target, found)
        elif found:
            bag = next(iter(target.containers(name)), None)
            bag = target.add_list(name, []) if bag is None else bag
            for word in dict.fromkeys(word for word in found if word not in words(bag)):
                add_item(bag, word)


def _trim(description: Element, seen: set[str]) -> None:
    """Remove what does not belong in a sidecar or was `seen` before, and add the rest to `seen`."""
    for name in list(description.attrib):
        if not name.startswith(_XML) and (_is_left_out(name) or name in seen):
            del description.attrib[name]
    description.set(qualified("rdf:about"), "")  # it must be the same throughout a packet
    for child in list(description):
        if not isinstance(child.tag, str) or _is_left_out(child.tag) or child.tag in seen or _is_huge(child):
            description.remove(child)
    seen.update(name for name in description.attrib if name != qualified("rdf:about"))
    seen.update(child.tag for child in description)


def _is_left_out(name: str) -> bool:
    if name in _COLOURS:
        return False
    return name in _NAMES_LEFT_OUT or name[1:].startswith(_NAMESPACES_LEFT_OUT) or not name.startswith("{")


def _is_huge(child: Element) -> bool:
    is_usual = etree.QName(child).namespace in NAMESPACES.values()
    return not is_usual and len(etree.tostring(child)) > _LARGEST


def _words(packet: Packet, name: str) -> list[str]:
    """The words of a property, even if it is a text and not a list."""
    found = [description.get(name) for description in packet.descriptions]
    for description in packet.descriptions:
        for element in description.findall(name):
            found += [text_of(item) for item in element.iter(qualified("rdf:li"))] or [element.text]
    return [word for word in found if word and word.strip()]


def _settle_colours(packet: Packet) -> None:
    """Remove colour labels without their version: darktable then ignores the title and more of the sidecar."""
    if not packet.names >= _COLOURS:
        for description in packet.descriptions:
            for name in _COLOURS:
                description.attrib.pop(name, None)
                for element in description.findall(name):
                    description.remove(element)
