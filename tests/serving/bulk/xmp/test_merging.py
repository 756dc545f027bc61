"""Keywords are added to an existing sidecar, and nothing else in it changes."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from tests.serving.bulk.xmp.darktable_sidecar import DARKTABLE, DC, LR, everything_else, keywords, merged


def test_a_new_sidecar_holds_the_tags():
    sidecar = merged(b"", ["sea", "großer Hund", "a<b"])
    assert keywords(sidecar) == ["sea", "großer Hund", "a<b"]
    assert merged(sidecar, ["sea", "großer Hund", "a<b"]) == sidecar


def test_what_other_programs_wrote_stays():
    sidecar = merged(DARKTABLE.encode(), ["sea", "trees"])
    assert keywords(sidecar) == ["holiday", "sea", "trees"]
    assert keywords(sidecar, f"{LR}hierarchicalSubject") == ["places|holiday", "sea", "trees"]
    assert everything_else(sidecar) == everything_else(DARKTABLE.encode())
    assert b"<!-- mine -->" in sidecar
    assert b"first&#10;second &lt;3" in sidecar


def test_only_keywords_of_ours_are_removed():
    once = merged(DARKTABLE.encode(), ["sea", "trees", "sunset"])
    twice = merged(once, ["sunset", "desert"])
    assert keywords(twice) == ["holiday", "sea", "sunset", "desert"]  # sea was somebody's own
    assert keywords(merged(twice, [])) == ["holiday", "sea"]
    assert everything_else(merged(twice, [])) == everything_else(DARKTABLE.encode())


def test_an_existing_list_of_digikam_is_updated():
    theirs = DARKTABLE.replace("lr:hierarchicalSubject", "digiKam:TagsList")
    theirs = theirs.replace("places|", "places/").replace(
        "xmlns:lr=", 'xmlns:digiKam="http://www.digikam.org/ns/1.0/" xmlns:lr='
    )
    tags_list = "{http://www.digikam.org/ns/1.0/}TagsList"
    sidecar = merged(theirs.encode(), ["trees"])
    assert keywords(sidecar, tags_list) == ["places/holiday", "sea", "trees"]
    assert keywords(merged(sidecar, []), tags_list) == ["places/holiday", "sea"]
    assert tags_list not in {element.tag for element in ElementTree.fromstring(merged(b"", ["trees"]).decode()).iter()}


def test_a_list_of_hierarchical_keywords_is_not_made():
    """darktable and digiKam do not read `dc:subject` if there is an `lr:hierarchicalSubject`."""
    flat = re.sub("<lr:.*</lr:hierarchicalSubject>", "", DARKTABLE, flags=re.DOTALL)
    assert b"hierarchicalSubject" not in merged(flat.encode(), ["trees"])


def test_descriptions_further_down_are_not_of_the_photo():
    """As Photoshop lists what a picture was made of, each with a `dc:subject` of its own."""
    pantry = """<xmpMM:Pantry xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"><rdf:Bag><rdf:li><rdf:Description>
    <dc:subject><rdf:Bag><rdf:li>layer</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:li></rdf:Bag></xmpMM:Pantry>
    """
    sidecar = merged(DARKTABLE.replace("<dc:subject>", f"{pantry}<dc:subject>", 1).encode(), ["trees"])
    assert keywords(sidecar) == ["holiday", "sea", "trees"]
    assert b"<dc:subject><rdf:Bag><rdf:li>layer</rdf:li></rdf:Bag></dc:subject>" in sidecar


def test_line_ends_stay():
    text = "<dc:description>one&#xD;\ntwo&#x9;</dc:description><dc:subject>"
    sidecar = merged(DARKTABLE.replace("<dc:subject>", text, 1).encode(), ["trees"])
    assert ElementTree.fromstring(sidecar).findtext(f".//{DC}description") == "one\r\ntwo\t"


@pytest.mark.parametrize(
    "sidecar",
    [
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'/>",
        "<R xmlns='http://www.w3.org/1999/02/22-rdf-syntax-ns#'/>".replace("R ", "RDF "),
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'><r:RDF xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        "<r:Description r:about=''/></r:RDF></x:xmpmeta>",
        "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>" + DARKTABLE.partition("?>\n")[2],
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_other_ways_to_write_xmp(sidecar: str, encoding: str):
    after = merged(sidecar.encode(encoding), ["trees"])
    assert "trees" in keywords(after)
    assert merged(after, ["trees"]) == after
