"""Which keywords a sidecar gets, keeps and loses in several runs."""

import pytest

from serving.bulk.xmp.keywords import add_keywords, merge
from serving.bulk.xmp.packet import Packet, words

LISTS = {"lr:hierarchicalSubject": "|", "digiKam:TagsList": "/", "MicrosoftPhoto:LastKeywordXMP": "/"}


def packet_with(**lists: list[str]) -> Packet:
    packet = Packet.new()
    for name, found in lists.items():
        packet.add_list(name.replace("_", ":"), found)
    return packet


def listed(packet: Packet, name: str = "dc:subject") -> list[str]:
    return [word for container in packet.containers(name) for word in words(container)]


def edit(packet: Packet, name: str, *found: str) -> None:
    """As another program does."""
    for container in packet.containers(name):
        for item in list(container):
            container.remove(item)
        for word in found:
            container.append(container.makeelement("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"))
            container[-1].text = word


def test_a_second_run_changes_nothing():
    packet = packet_with(dc_subject=["mine"], lr_hierarchicalSubject=["own|mine"])
    assert merge(packet, ["sea", "salt, pepper", "a|b"])
    assert not merge(packet, ["sea", "salt, pepper", "a|b"])
    assert not merge(packet, ["a|b", "sea", "salt, pepper"])
    assert merge(packet, ["sea"])


def test_a_keyword_that_somebody_removed_is_not_added_again():
    packet = packet_with()
    merge(packet, ["sea", "ship"])
    edit(packet, "dc:subject", "ship")
    assert not merge(packet, ["sea", "ship"])
    merge(packet, ["sea", "ship", "port"])
    assert listed(packet) == ["ship", "port"]
    merge(packet, ["port"])  # the model has changed its mind, and changes it again
    merge(packet, ["sea", "port"])
    assert listed(packet) == ["port", "sea"]


def test_a_keyword_that_somebody_put_into_a_hierarchy_is_theirs():
    packet = packet_with(lr_hierarchicalSubject=["x"], dc_subject=["x"])
    merge(packet, ["sea", "ship"])
    edit(packet, "lr:hierarchicalSubject", "x", "water|sea", "ship")
    edit(packet, "dc:subject", "x", "water", "sea", "ship")
    merge(packet, ["ship"])
    assert listed(packet) == ["x", "water", "sea", "ship"]
    assert listed(packet, "lr:hierarchicalSubject") == ["x", "water|sea", "ship"]
    merge(packet, [])
    assert listed(packet) == ["x", "water", "sea"]


def test_a_label_that_is_only_a_level_of_a_hierarchy_is_added():
    packet = packet_with(lr_hierarchicalSubject=["water|sea"], dc_subject=["sea"])
    merge(packet, ["water", "sea"])
    assert listed(packet) == ["sea", "water"]
    merge(packet, [])
    assert listed(packet) == ["sea"]


@pytest.mark.parametrize(("name", "separator"), LISTS.items())
def test_keywords_of_the_flat_list_are_carried_over(name: str, separator: str):
    packet = packet_with(**{name.replace(":", "_"): [f"water{separator}sea"]}, dc_subject=["sea", "water", "water|sea"])
    assert merge(packet, [])
    assert listed(packet, name) == [f"water{separator}sea"]
    merge(packet, ["trees"])
    edit(packet, "dc:subject", "sea", "trees", "added", "day/night")
    assert merge(packet, ["trees"])
    night = "day/night" if separator == "|" else "day／night"
    assert listed(packet, name) == [f"water{separator}sea", "trees", "added", night]
    assert not merge(packet, ["trees"])


def test_an_empty_list_is_filled():
    packet = Packet.parse(
        b"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
        xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject/></rdf:Description></rdf:RDF>"""
    )
    merge(packet, ["sea"])
    assert listed(packet) == ["sea"]


def test_a_label_that_somebody_has_in_either_spelling_is_not_added():
    packet = packet_with(dc_subject=["salt, pepper", "left｜right"])
    merge(packet, ["salt, pepper", "left|right"])
    assert listed(packet) == ["salt, pepper", "left｜right"]
    assert listed(packet, "labelwise:tags") == []


def test_labels_as_older_versions_spelled_them_are_replaced():
    packet = packet_with(dc_subject=["salt, pepper"], lr_hierarchicalSubject=["salt, pepper"])
    packet.add_list("labelwise:tags", ["salt, pepper"])
    merge(packet, ["salt, pepper"])
    assert listed(packet) == listed(packet, "lr:hierarchicalSubject") == listed(packet, "labelwise:tags")
    assert listed(packet) == ["salt， pepper"]


def test_own_keywords_are_added_once():
    packet = packet_with(dc_subject=["sea"], lr_hierarchicalSubject=["sea"])
    add_keywords(packet, ["sea", "port", "port"])
    assert listed(packet) == listed(packet, "lr:hierarchicalSubject") == ["sea", "port"]
