"""A packet that is read and written again is the same, except for what was changed."""

import pytest

from serving.bulk.xmp.keywords import merge
from serving.bulk.xmp.packet import LARGEST, Packet, PacketError, words

BODY = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <!-- a comment -->
  <rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:own="urn:own" own:note="one&#10;two &lt; three">
   <?own instruction?>
   <own:text><![CDATA[<raw> & more]]></own:text>
   <own:line>first&#13;second größer 𝄞</own:line>
   <dc:subject>
    <rdf:Seq>
     <rdf:li xml:lang="en">sea</rdf:li>
     <rdf:li><!-- a comment -->lake<?own instruction?></rdf:li>
    </rdf:Seq>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>"""
BEFORE = (
    '<?xml version="1.0" encoding="{}"?>\n<!-- > in front -->\n<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
)
AFTER = "\n   \n\n<!-- <behind> -->\n<?xpacket end='w'?>\n\n"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_everything_else_stays_byte_for_byte(encoding: str, line_end: str):
    text = (BEFORE.format(encoding.upper()[:6].strip("-")) + BODY + AFTER).replace("\n", line_end)
    data = text.encode(encoding)
    packet = Packet.parse(data)
    assert packet.to_bytes() == data
    merge(packet, ["trees"])
    merged = packet.to_bytes()
    assert not {"\n", "\r"} & {*merged.decode(encoding).replace(line_end, "")}
    packet = Packet.parse(merged)
    assert [words(container) for container in packet.containers("dc:subject")] == [["sea", "lake", "trees"]]
    merge(packet, [])
    lines = packet.to_bytes().decode(encoding).split(line_end)
    assert [line for line in lines if "labelwise" not in line and "rdf:Bag" not in line] == text.split(line_end)


def test_characters_outside_the_encoding_become_references():
    data = (BEFORE.format("iso-8859-1") + BODY.replace("𝄞", "") + AFTER).encode("iso-8859-1")
    packet = Packet.parse(data)
    merge(packet, ["日本"])
    assert b"gr\xf6\xdfer" in packet.to_bytes()
    assert b"&#26085;&#26412;" in packet.to_bytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b" " * (LARGEST + 1), "more than 16 MiB"),
        (b"<!-- a --><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "DOCTYPE"),
        (b"<a>&undefined;</a>", "not XML"),
        (b"<a/><b/>", "not XML"),
        (b"<!-- a", "not XML"),
        (b"", "not XML"),
        (b"\xff\xfe<", "not XML"),
        (b"<a>\0</a>", "not XML"),
        (b"<a>\xff</a>", "not XML"),
    ],
)
def test_bytes_that_are_not_a_packet_are_refused(data: bytes, message: str):
    with pytest.raises(PacketError, match=message):
        Packet.parse(data)
