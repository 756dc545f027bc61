"""XMP as a tree: parsed from a sidecar or a photo, searched for properties, and written back.

What surrounds the root element (XML declaration, processing instructions, comments, padding) stays as it is, and so do
the encoding and the line ends. lxml alone would keep none of them; it parses and writes the root element.
"""

import codecs
import functools
import re
from dataclasses import dataclass
from typing import Any

from lxml import etree

NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
    "microsoft": "http://ns.microsoft.com/photo/1.0",  # as ExifTool spells it
    "mediapro": "http://ns.iview-multimedia.com/mediapro/1.0/",
    "darktable": "http://darktable.sf.net/",
    "labelwise": "urn:labelwise:xmp/1.0/",
}
LARGEST = 16 * 2**20  # bytes of a packet
_CONTAINERS = ("Bag", "Seq", "Alt")
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_PROLOG = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_EPILOG = '\n<?xpacket end="w"?>\n'
_BYTE_ORDER_MARKS = (  # UTF-32 first: its mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WITHOUT_MARK = ((b"<\0\0\0", "utf-32-le"), (b"\0\0\0<", "utf-32-be"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
_DECLARED = re.compile(rb"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)""")
_CONTROLS = dict.fromkeys({*range(32)} - {*b"\t\n\r"}, " ")

Element = Any  # lxml has no types of its own


class PacketError(ValueError):
    """The bytes are not an XMP packet. The message completes "The existing sidecar …"."""


@functools.lru_cache(256)
def qualified(name: str) -> str:
    """A name such as `dc:subject` as lxml spells it."""
    prefix, local = name.split(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"


@dataclass
class Packet:
    """An XMP packet. `prolog` and `epilog` are the text around the root element."""

    root: Element
    prolog: str = _PROLOG
    epilog: str = _EPILOG
    encoding: str = "utf-8"
    mark: bytes = b""
    line_end: str = "\n"

    @classmethod
    def new(cls) -> "Packet":
        """A packet without any property."""
        root = _element("x:xmpmeta")
        root.append(_element("rdf:RDF"))
        return cls(root)

    @classmethod
    def parse(cls, data: bytes, *, lenient: bool = False) -> "Packet":
        """Raises PacketError. If `lenient`, takes Latin-1 in UTF-8 and control characters, as Adobe's library does."""
        if len(data) > LARGEST:
            raise PacketError(f"has more than {LARGEST // 2**20} MiB.")
        text, encoding, mark = _decode(data, lenient)
        line_end = next((end for end in ("\r\n", "\n", "\r") if end in text), "\n")
        start, end = _root_span(text)
        if text.startswith("<!DOCTYPE", start):  # what it defines elsewhere would be lost
            raise PacketError("has a DOCTYPE, which XMP does not allow: fix or remove it.")
        try:
            root = etree.fromstring(text[start:end].encode(), _parser())
        except (etree.XMLSyntaxError, ValueError) as error:
            raise PacketError(f"is not XML ({str(error).partition(',')[0]}): fix or remove it.") from error
        return cls(root, text[:start], text[end:], encoding, mark, line_end)

    def to_bytes(self) -> bytes:
        body: str = etree.tostring(self.root, encoding="unicode", with_tail=False).replace("\n", self.line_end)
        text = self.prolog + body + self.epilog
        return self.mark + text.encode(self.encoding, "xmlcharrefreplace")

    @property
    def rdf(self) -> Element:
        for element in (self.root, *self.root):
            if element.tag == qualified("rdf:RDF"):
                return element
        raise PacketError("is not XMP: it has no rdf:RDF. Fix or remove it.")

    @property
    def descriptions(self) -> list[Element]:
        """Each rdf:Description with properties of the photo; those further down describe other things."""
        return list(self.rdf.findall("rdf:Description", NAMESPACES))

    def first_description(self) -> Element:
        """The rdf:Description for new properties."""
        for description in self.descriptions:
            return description
        return _appended(self.rdf, _element("rdf:Description", {qualified("rdf:about"): ""}))

    @property
    def names(self) -> set[str]:
        """The photo's properties, as lxml spells them."""
        found = {name for description in self.descriptions for name in description.attrib}
        found |= {child.tag for description in self.descriptions for child in description.iterchildren("*")}
        return found - {qualified("rdf:about")}

    def has(self, name: str) -> bool:
        return qualified(name) in self.names

    def containers(self, name: str) -> list[Element]:
        """Each rdf:Bag, rdf:Seq or rdf:Alt of a property. Raises PacketError if the property is not a list."""
        if self.rdf.xpath(f"rdf:Description/@{name}", namespaces=NAMESPACES):
            raise _not_a_list(name)
        return [_container(element, name) for element in self.rdf.findall(f"rdf:Description/{name}", NAMESPACES)]

    def add_list(self, name: str, words: list[str], kind: str = "Bag") -> Element:
        """Add a property that is a list, and return the container of its items."""
        element = _appended(self.first_description(), _element(name))
        container = etree.SubElement(element, qualified(f"rdf:{kind}"))
        for word in words:
            add_item(container, word)
        return container

    def add_text(self, name: str, text: str, *, has_language: bool = False) -> None:
        """Add a property that is a text; with `has_language` one that may have several languages."""
        if has_language:
            self.add_list(name, [text], "Alt")[0].set(_LANGUAGE, "x-default")
        else:
            _appended(self.first_description(), _element(name)).text = text


def items(container: Element) -> list[Element]:
    return list(container.findall("rdf:li", NAMESPACES))


def words(container: Element) -> list[str]:
    return [text_of(item) for item in items(container)]


def text_of(item: Element) -> str:
    """The text of a list's item without comments; if the item has qualifiers, the text of its rdf:value."""
    value = next(item.iter(qualified("rdf:value")), item)
    return "".join([value.text or "", *(child.tail or "" for child in value)])


def add_item(container: Element, word: str) -> None:
    etree.SubElement(container, qualified("rdf:li")).text = word


def lay_out(container: Element) -> None:
    """Put each item on its own line: darktable skips a list without white space in Lightroom's sidecars."""
    indent(container.getparent())


def indent(element: Element) -> None:
    """Put each element in `element` on its own line; unlike `etree.indent`, not those among text, such as comments."""
    depth = sum(1 for _ in element.iterancestors())
    between = [element.text, *(child.tail for child in element)]
    if not len(element) or any(text and text.strip() for text in between):
        return
    element.text = "\n" + " " * (depth + 1)
    for child in element:
        child.tail = element.text
        indent(child)
    element[-1].tail = "\n" + " " * depth


def _element(name: str, attributes: dict[str, str] | None = None) -> Element:
    prefix = name.partition(":")[0]
    return etree.Element(qualified(name), attributes, nsmap={prefix: NAMESPACES[prefix]})


def _appended(parent: Element, child: Element) -> Element:
    """Append `child` to `parent` on its own line, and return it."""
    depth = sum(1 for _ in parent.iterancestors())
    before, after = "\n" + " " * (depth + 1), "\n" + " " * depth
    if len(parent):
        parent[-1].tail = before
    elif not (parent.text or "").strip():
        parent.text = before
    child.tail = after
    parent.append(child)
    return child


def _container(element: Element, name: str) -> Element:
    found = [child for child in element if isinstance(child.tag, str)]
    if not found and not (element.text or "").strip() and not element.attrib:
        return etree.SubElement(element, qualified("rdf:Bag"))
    if len(found) != 1 or found[0].tag not in {qualified(f"rdf:{kind}") for kind in _CONTAINERS}:
        raise _not_a_list(name)
    return found[0]


def _not_a_list(name: str) -> PacketError:
    return PacketError(f"has {name}, but not as a list of keywords: fix or remove it.")


def _parser() -> Element:
    """Without entities, network and DTDs, and within libxml2's limits on depth (256) and size of a text."""
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        strip_cdata=False,
    )


def _decode(data: bytes, lenient: bool) -> tuple[str, str, bytes]:
    """Text, encoding and byte order mark."""
    mark, encoding = next(((mark, name) for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), (b"", ""))
    data = data.removeprefix(mark)
    if not encoding:
        encoding = next((name for start, name in _WITHOUT_MARK if data.startswith(start)), "")
    if not encoding:
        declared = _DECLARED.match(data)
        encoding = declared[1].decode().lower() if declared and not lenient else "utf-8"
    try:
        text = data.decode(encoding, "labelwise-latin-1" if lenient and encoding == "utf-8" else "strict")
    except (LookupError, UnicodeError) as error:
        raise PacketError(f"is not XML ({error}): fix or remove it.") from error
    return text.translate(_CONTROLS) if lenient else text, encoding, mark


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("labelwise-latin-1", _as_latin_1)


def _root_span(text: str) -> tuple[int, int]:
    """Where the root element begins and ends, between white space, comments and processing instructions."""
    start, end = 0, len(text)
    while True:
        start = _skip_space(text, start)
        opening = next((pair for pair in _ASIDES if text.startswith(pair[0], start)), None)
        if not opening or (found := text.find(opening[1], start)) < 0:
            break
        start = found + len(opening[1])
    while start < end:
        end = len(text[:end].rstrip(_SPACE))
        closing = next((pair for pair in _ASIDES if text.endswith(pair[1], start, end)), None)
        if not closing or (found := text.rfind(closing[0], start, end)) < 0:
            break
        end = found
    return start, max(start, end)


_SPACE = " \t\r\n\ufeff\0"
_ASIDES = (("<?", "?>"), ("<!--", "-->"))


def _skip_space(text: str, start: int) -> int:
    while start < len(text) and text[start] in _SPACE:
        start += 1
    return start
