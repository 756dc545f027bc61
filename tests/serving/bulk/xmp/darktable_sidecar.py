"""A sidecar as darktable writes it, and a reader of its elements."""

import xml.etree.ElementTree as ElementTree

from serving.bulk.xmp.keywords import merge
from serving.bulk.xmp.packet import Packet

DC = "{http://purl.org/dc/elements/1.1/}"
LR = "{http://ns.adobe.com/lightroom/1.0/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"

# As darktable 4.6 writes it, shortened; with a comment and a line end in an attribute besides.
DARKTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <!-- mine -->
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
    xmlns:darktable="http://darktable.sf.net/"
   exif:DateTimeOriginal="2024:05:01 10:00:00.000"
   exif:UserComment="first&#10;second &lt;3"
   xmp:Rating="4"
   darktable:raw_params="0"
   darktable:auto_presets_applied="1">
   <dc:subject>
    <rdf:Seq>
     <rdf:li>holiday</rdf:li>
     <rdf:li>sea</rdf:li>
    </rdf:Seq>
   </dc:subject>
   <lr:hierarchicalSubject>
    <rdf:Seq>
     <rdf:li>places|holiday</rdf:li>
    </rdf:Seq>
   </lr:hierarchicalSubject>
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="exposure"
      darktable:params="gz02eJxjYGBgYGaAAG"/>
    </rdf:Seq>
   </darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""


def merged(sidecar: bytes, tags: list[str], mark: str = "tags") -> bytes:
    packet = Packet.parse(sidecar) if sidecar else Packet.new()
    return packet.to_bytes() if merge(packet, tags, mark) else sidecar


def keywords(sidecar: bytes, name: str = f"{DC}subject") -> list[str]:
    root = ElementTree.fromstring(sidecar)
    (subject,) = root.findall(f"{RDF}RDF/{RDF}Description/{name}") or root.iter(name)
    return [item.text or "" for item in subject.iter(f"{RDF}li")]


def everything_else(sidecar: bytes) -> list[tuple[str, dict[str, str], str]]:
    """Every element with its attributes and text, except keywords and elements of ours."""
    root = ElementTree.fromstring(sidecar)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{DC}subject", f"{LR}hierarchicalSubject") or "labelwise" in child.tag:
                parent.remove(child)
    return [(element.tag, element.attrib, (element.text or "").strip()) for element in root.iter()]
