"""Sidecars: a photo's tags as keywords in an XMP file beside it, which photo programs read. The photo is not touched.

darktable and digiKam read `photo.jpg.xmp`; Lightroom and Bridge read `photo.xmp`, and only of raw files: of a JPEG they
read what is in it. Keywords go to `dc:subject` (XMP specification, part 1, section 8.3), which all of them read, to
`lr:hierarchicalSubject`, which is all that some read, and to digiKam's own list where there is one, for then it reads
no other.

Everything else in a sidecar that is there stays. So that a photo tagged again does not keep tags it has no more, the
keywords that were added here are also listed in a property of our own, and only those are ever taken away: a keyword
that somebody else put there is left alone, whether the model agrees or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast
from xml.dom import minidom
from xml.dom.minidom import Attr, Document, Element
from xml.parsers.expat import ExpatError

from labelwise.spec import TaggerSpec, write_atomically
from serving.bulk.rows import Row, tags_of
from serving.bulk.sources import Photo

_KEYWORDS = {
    "dc:subject": "http://purl.org/dc/elements/1.1/",
    "lr:hierarchicalSubject": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam:TagsList": "http://www.digikam.org/ns/1.0/",
}
_ONLY_WHERE_IT_IS = "digiKam:TagsList"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_OURS = "urn:labelwise:xmp/1.0/"
_LARGEST = 16 * 2**20  # bytes of a sidecar that is there
_EMPTY = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


class SidecarError(Exception):
    """A sidecar that cannot be changed without losing what is in it."""


@dataclass(frozen=True)
class Sidecars:
    """`stem`: as photo.xmp, in place of photo.jpg.xmp. Photos in archives have none."""

    stem: bool = False

    def path(self, file: str) -> Path:
        return Path(file).with_suffix(".xmp") if self.stem else Path(file + ".xmp")

    def exists(self, photo: Photo) -> bool:
        """Whether the photo has one, or can have none."""
        return photo.file is None or self.path(photo.file).exists()

    def add(self, photos: Sequence[Photo], rows: Sequence[Row], spec: TaggerSpec) -> list[Row]:
        """Write those of `photos`; a row whose sidecar could not be written says so."""
        return [self._add(photo, row, spec) for photo, row in zip(photos, rows, strict=True)]

    def _add(self, photo: Photo, row: Row, spec: TaggerSpec) -> Row:
        if photo.file is None or row.scores is None:
            return row
        try:
            write_sidecar(self.path(photo.file), tags_of(row.scores, spec))
        except SidecarError as error:
            return replace(row, error="sidecar_broken", detail=str(error))
        except OSError as error:
            detail = f"The sidecar cannot be written: {error.strerror or error}."
            return replace(row, error="sidecar_unwritable", detail=detail)
        return row


def write_sidecar(file: Path, tags: Sequence[str]) -> None:
    """Make the keywords that were added here exactly `tags`, atomically. Raises SidecarError or OSError."""
    try:
        before = file.read_bytes()
    except FileNotFoundError:
        before = b""
    after = merged(before, tags)
    if after != before:
        write_atomically(file.resolve(), after)  # a link stays one


def merged(sidecar: bytes, tags: Sequence[str]) -> bytes:
    """The sidecar with `tags` for our keywords. SidecarError where it is no XMP."""
    document = _parse(sidecar)
    try:
        lists = [
            _list_of(document, namespace, name)
            for name, namespace in _KEYWORDS.items()
            if name != _ONLY_WHERE_IT_IS or _found(document, namespace, name)
        ]
        ours = _list_of(document, _OURS, "labelwise:tags")
        before = {*_words(ours)}
        theirs = {word for words in map(_words, lists) for word in words} - before
        added = [tag for tag in tags if tag not in theirs]
        for bag in (*lists, ours):
            _change(bag, before.difference(added), [tag for tag in added if tag not in _words(bag)])
        return _written(document)
    finally:
        document.unlink()


def _parse(sidecar: bytes) -> Document:
    if len(sidecar) > _LARGEST:
        raise SidecarError(f"The sidecar that is there has more than {_LARGEST // 2**20} MiB.")
    try:
        return minidom.parseString(sidecar if sidecar.strip() else _EMPTY.encode())
    except (ExpatError, ValueError, LookupError) as error:  # the last two: an encoding that Python does not know
        raise SidecarError(f"The sidecar that is there is not XML ({error}): mend or remove it.") from error


def _found(document: Document, namespace: str, name: str) -> list[Element]:
    return list(document.getElementsByTagNameNS(namespace, name.partition(":")[2]))


def _list_of(document: Document, namespace: str, name: str) -> Element:
    """The rdf:Bag (or Seq) that holds a property's values; made where there is none."""
    found = _found(document, namespace, name)
    description = _description(document)
    rdf = f"{description.prefix}:" if description.prefix else ""
    if found:
        lists = [child for child in found[0].childNodes if child.nodeType == child.ELEMENT_NODE]
        if len(lists) != 1 or lists[0].localName not in ("Bag", "Seq", "Alt"):
            raise SidecarError(f"{name} in the sidecar that is there is no list of keywords: mend or remove it.")
        return lists[0]
    made = document.createElementNS(namespace, name)
    made.setAttribute(f"xmlns:{name.partition(':')[0]}", namespace)
    bag = document.createElementNS(_RDF, f"{rdf}Bag")
    made.appendChild(bag)
    description.appendChild(made)
    return bag


def _description(document: Document) -> Element:
    """The first rdf:Description, where the properties are."""
    found = document.getElementsByTagNameNS(_RDF, "Description")
    if found:
        return found[0]
    root = document.getElementsByTagNameNS(_RDF, "RDF")
    if not root:
        raise SidecarError("The sidecar that is there is no XMP: it has no rdf:RDF. Mend or remove it.")
    prefix = f"{root[0].prefix}:" if root[0].prefix else ""
    made = document.createElementNS(_RDF, f"{prefix}Description")
    if not prefix:  # an attribute is in no namespace without one
        made.setAttribute("xmlns:rdf", _RDF)
    made.setAttributeNS(_RDF, f"{prefix or 'rdf:'}about", "")
    root[0].appendChild(made)
    return made


def _words(bag: Element) -> list[str]:
    return [_text(item) for item in _items(bag)]


def _items(bag: Element) -> list[Element]:
    return [child for child in bag.childNodes if child.nodeType == child.ELEMENT_NODE and child.localName == "li"]


def _text(item: Element) -> str:
    return "".join(node.data for node in item.childNodes if node.nodeType in (node.TEXT_NODE, node.CDATA_SECTION_NODE))


def _change(bag: Element, gone: set[str], new: Sequence[str]) -> None:
    document, prefix = bag.ownerDocument, f"{bag.prefix}:" if bag.prefix else ""
    assert document is not None
    for item in _items(bag):
        if _text(item) in gone:
            bag.removeChild(item)
    for word in new:
        item = document.createElementNS(_RDF, f"{prefix}li")
        item.appendChild(document.createTextNode(word))
        bag.appendChild(item)


def _written(document: Document) -> bytes:
    """As UTF-8, without an XML declaration, as XMP is. Line ends in attributes stay what they are: minidom before
    Python 3.13 writes them so that the next reader takes them for spaces."""
    for element in document.getElementsByTagName("*"):
        for at in range(element.attributes.length):
            attribute = cast(Attr, element.attributes.item(at))
            for character, stand_in in _STAND_INS.items():
                attribute.value = attribute.value.replace(character, stand_in)
    text = "\n".join(node.toxml() for node in document.childNodes)
    for character, stand_in in _STAND_INS.items():
        text = text.replace(stand_in, f"&#{ord(character)};")
    return text.encode() + b"\n"


_STAND_INS = {"\n": "\U0010fff1", "\r": "\U0010fff2", "\t": "\U0010fff3"}  # of the last private-use plane
