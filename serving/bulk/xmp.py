"""Sidecars: a photo's tags as keywords in an XMP file beside it, which photo programs read. The photo is not touched.

darktable and digiKam read `photo.jpg.xmp`; Lightroom and Bridge read `photo.xmp`, and only of raw files: of a JPEG they
read what is in it. Keywords go to `dc:subject` (XMP specification, part 1, section 8.3), which all of them read, to
`lr:hierarchicalSubject`, which is all that some read, and to digiKam's own list where there is one, for then it reads
no other.

Everything else in a sidecar that is there stays. So that a photo tagged again does not keep tags it has no more, the
keywords that were added here are also listed in a property of our own, and only those are ever taken away: a keyword
that somebody else put there is left alone, whether the model agrees or not. Photos that share a sidecar have such a
list each, and a photo without one has not been here.
"""

import os
import re
import stat
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast
from xml.dom import minidom
from xml.dom.minidom import Attr, Document, Element
from xml.parsers.expat import ExpatError

from labelwise.spec import TaggerSpec, write_atomically
from serving.bulk.rows import Row, tags_of
from serving.bulk.sources import Photo

_SUBJECT, _HIERARCHY = "dc:subject", "lr:hierarchicalSubject"
_KEYWORDS = {
    _SUBJECT: "http://purl.org/dc/elements/1.1/",
    _HIERARCHY: "http://ns.adobe.com/lightroom/1.0/",
    "digiKam:TagsList": "http://www.digikam.org/ns/1.0/",
}
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_OURS, _MARK = "urn:labelwise:xmp/1.0/", "tags"
_NO_XML = (ExpatError, ElementTree.ParseError, ValueError, LookupError)  # the last two: an encoding Python lacks
_LARGEST = 16 * 2**20  # bytes of a sidecar that is there
_EMPTY = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
_LOCKS = tuple(threading.Lock() for _ in range(64))  # photo.jpg and photo.heic are changed at once, in one photo.xmp


class SidecarError(Exception):
    """A sidecar that cannot be changed without losing what is in it."""


@dataclass(frozen=True)
class Sidecars:
    """`stem`: as photo.xmp, in place of photo.jpg.xmp. Photos in archives have none."""

    stem: bool = False

    def path(self, file: str) -> Path:
        return Path(file).with_suffix(".xmp") if self.stem else Path(file + ".xmp")

    def done(self, photo: Photo, row: Row, spec: TaggerSpec) -> bool:
        """Whether the photo's sidecar has the tags of its row, and no others from here; or it can have none."""
        if photo.file is None or row.scores is None:
            return True
        try:
            return _holds(_read(self.path(photo.file)), tags_of(row.scores, spec), self._mark(photo.file))
        except (OSError, *_NO_XML):
            return False

    def add(self, photos: Sequence[Photo], rows: Sequence[Row], spec: TaggerSpec) -> list[Row]:
        """Write those of `photos`; a row whose sidecar could not be written says so."""
        return [self._add(photo, row, spec) for photo, row in zip(photos, rows, strict=True)]

    def _add(self, photo: Photo, row: Row, spec: TaggerSpec) -> Row:
        if photo.file is None or row.scores is None:
            return row
        path = self.path(photo.file)
        try:
            with _LOCKS[hash(path) % len(_LOCKS)]:
                write_sidecar(path, tags_of(row.scores, spec), self._mark(photo.file))
        except SidecarError as error:
            return replace(row, error="sidecar_broken", detail=str(error))
        except OSError as error:
            detail = f"The sidecar cannot be written: {error.strerror or error}."
            return replace(row, error="sidecar_unwritable", detail=detail)
        return row

    def _mark(self, file: str) -> str:
        """The property of ours that lists the photo's keywords: one for each of the photos that share a sidecar."""
        suffix = Path(file).suffix if self.stem else ""
        return _MARK + re.sub("[^.A-Za-z0-9]", lambda found: f"-{ord(found[0]):x}", suffix)


def write_sidecar(file: Path, tags: Sequence[str], mark: str = _MARK) -> None:
    """Make the keywords that were added here exactly `tags`, atomically. Raises SidecarError or OSError."""
    try:
        before, status = _read(file), file.stat()
    except FileNotFoundError:
        before, status = b"", None
    after = merged(before, tags, mark)
    if after == before:
        return
    file = file.resolve()  # a link stays one
    if status is None:
        write_atomically(file, after)
        return
    mode = stat.S_IMODE(status.st_mode)
    write_atomically(file, after, mode)
    with suppress(OSError):  # where the disk knows no owners, or only root may give a file away
        os.chown(file, status.st_uid, status.st_gid)
    with suppress(OSError):
        file.chmod(mode)  # what the umask took


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_LARGEST + 1)


def _holds(sidecar: bytes, tags: Sequence[str], mark: str) -> bool:
    """Whether `merged` would change nothing; a keyword of ours that somebody took away is not put back for that.

    Each photo is asked about in each run: minidom takes six times as long.
    """
    root = ElementTree.fromstring(sidecar)
    tops = next(root.iter(f"{{{_RDF}}}RDF"), root).findall(f"{{{_RDF}}}Description")

    def words(namespace: str, name: str) -> set[str]:
        items = (item for top in tops for item in top.iterfind(f"{{{namespace}}}{name}/*/{{{_RDF}}}li"))
        return {item.text or "" for item in items}

    ours = words(_OURS, mark)
    theirs = {word for name, namespace in _KEYWORDS.items() for word in words(namespace, name.partition(":")[2])}
    return any(top.find(f"{{{_OURS}}}{mark}") is not None for top in tops) and ours <= {*tags} <= ours | theirs


def merged(sidecar: bytes, tags: Sequence[str], mark: str = _MARK) -> bytes:
    """The sidecar with `tags` for our keywords, those listed under `mark`. SidecarError where it is no XMP."""
    document = _parse(sidecar)
    try:
        _merge(_descriptions(document), tags, mark)
        return _written(document)
    except RecursionError as error:
        raise SidecarError("The sidecar that is there is nested too deeply: mend or remove it.") from error


def _merge(tops: Sequence[Element], tags: Sequence[str], mark: str) -> None:
    lists = {name: _bag(found) for name in _KEYWORDS if (found := _found(tops, name))}
    ours = {child.localName: _bag(child) for top in tops for child in _children(top) if child.namespaceURI == _OURS}
    mine = ours.pop(mark, None) or _made(tops[0], f"labelwise:{mark}", _OURS)
    before, shared = {*_words(mine)}, {word for bag in ours.values() for word in _words(bag)}
    theirs = {word for bag in lists.values() for word in _words(bag)} - before - shared
    added = [tag for tag in tags if tag not in theirs]
    for name in (_SUBJECT, _HIERARCHY) if added else ():
        if name not in lists:
            lists[name] = _made(tops[0], name, _KEYWORDS[name])
            # What there is goes into a new hierarchy, too: darktable and digiKam, which find one, read nothing else.
            _change(lists[name], set(), _words(lists[_SUBJECT]))
    for bag in lists.values():
        _change(bag, before - shared, added)
    _change(mine, before, added)


def _parse(sidecar: bytes) -> Document:
    if len(sidecar) > _LARGEST:
        raise SidecarError(f"The sidecar that is there has more than {_LARGEST // 2**20} MiB.")
    try:
        document = minidom.parseString(sidecar if sidecar.strip() else _EMPTY.encode())
    except _NO_XML as error:
        raise SidecarError(f"The sidecar that is there is not XML ({error}): mend or remove it.") from error
    if document.doctype:  # what it defines outside of the file would be lost
        raise SidecarError("The sidecar that is there has a DOCTYPE, which XMP has not: mend or remove it.")
    return document


def _descriptions(document: Document) -> list[Element]:
    """Each rdf:Description whose children are the photo's properties; those further down are of other things."""
    root = cast(Element, document.documentElement)
    rdf = next((element for element in (root, *_children(root)) if _is(element, _RDF, "RDF")), None)
    if rdf is None:
        raise SidecarError("The sidecar that is there is no XMP: it has no rdf:RDF. Mend or remove it.")
    found = [child for child in _children(rdf) if _is(child, _RDF, "Description")]
    if found:
        return found
    prefix = f"{rdf.prefix}:" if rdf.prefix else ""
    made = document.createElementNS(_RDF, f"{prefix}Description")
    if not prefix:  # an attribute is in no namespace without one
        made.setAttribute("xmlns:rdf", _RDF)
    made.setAttributeNS(_RDF, f"{prefix or 'rdf:'}about", "")
    rdf.appendChild(made)
    return [made]


def _found(tops: Sequence[Element], name: str) -> Element | None:
    namespace, local = _KEYWORDS[name], name.partition(":")[2]
    if any(top.hasAttributeNS(namespace, local) for top in tops):
        raise _no_list(name)
    return next((child for top in tops for child in _children(top) if _is(child, namespace, local)), None)


def _bag(found: Element) -> Element:
    """The rdf:Bag (or Seq) that holds a property's values."""
    lists = _children(found)
    if len(lists) != 1 or lists[0].localName not in ("Bag", "Seq", "Alt"):
        raise _no_list(found.tagName)
    return lists[0]


def _no_list(name: str) -> SidecarError:
    return SidecarError(f"{name} in the sidecar that is there is no list of keywords: mend or remove it.")


def _made(top: Element, name: str, namespace: str) -> Element:
    """The rdf:Bag of a new property."""
    document = cast(Document, top.ownerDocument)
    made = document.createElementNS(namespace, name)
    made.setAttribute(f"xmlns:{name.partition(':')[0]}", namespace)
    bag = document.createElementNS(_RDF, f"{top.prefix}:Bag" if top.prefix else "Bag")
    made.appendChild(bag)
    top.appendChild(made)
    return bag


def _children(element: Element) -> list[Element]:
    return [child for child in element.childNodes if child.nodeType == child.ELEMENT_NODE]


def _is(element: Element, namespace: str, local: str) -> bool:
    return (element.namespaceURI, element.localName) == (namespace, local)


def _words(bag: Element) -> list[str]:
    return [_text(item) for item in _items(bag)]


def _items(bag: Element) -> list[Element]:
    return [child for child in _children(bag) if child.localName == "li"]


def _text(item: Element) -> str:
    return "".join(node.data for node in item.childNodes if node.nodeType in (node.TEXT_NODE, node.CDATA_SECTION_NODE))


def _change(bag: Element, before: set[str], after: Sequence[str]) -> None:
    """Take away those of `before` that are not in `after`, whose others are added."""
    document, prefix = cast(Document, bag.ownerDocument), f"{bag.prefix}:" if bag.prefix else ""
    for item in _items(bag):
        if _text(item) in before.difference(after):
            bag.removeChild(item)
    there = _words(bag)
    for word in after:
        if word not in there:
            item = document.createElementNS(_RDF, f"{prefix}li")
            item.appendChild(document.createTextNode(word))
            bag.appendChild(item)


def _written(document: Document) -> bytes:
    """As UTF-8, without an XML declaration, as XMP is. Line ends stay what they are: minidom (before Python 3.13 in
    attributes, too) writes them so that the next reader takes them for others, or for spaces."""
    for element in document.getElementsByTagName("*"):
        for at in range(element.attributes.length):
            attribute = cast(Attr, element.attributes.item(at))
            attribute.value = attribute.value.translate(_STAND_INS)
        for child in element.childNodes:
            if child.nodeType == child.TEXT_NODE:
                child.data = child.data.replace("\r", chr(_STAND_INS[ord("\r")]))
    text = "\n".join(node.toxml() for node in document.childNodes)
    return text.translate({stand_in: f"&#{character};" for character, stand_in in _STAND_INS.items()}).encode() + b"\n"


_STAND_INS = {ord("\n"): 0x10FFF1, ord("\r"): 0x10FFF2, ord("\t"): 0x10FFF3}  # of the last private-use plane
