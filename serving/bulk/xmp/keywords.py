"""Decides which keywords a packet gets and loses when its photo is tagged.

Our keywords go to `dc:subject` (XMP specification, part 1, section 8.3), which every program reads. We make no list of
hierarchical keywords, because a program that finds one reads nothing else. If there is one, it gets the keywords of
`dc:subject` that it lacks.

A property of our own also lists the keywords that we added, and we never remove others. Photos that share a sidecar
have such a list each. If one of our keywords is in no other list any more, it was removed, and is not added again.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from serving.bulk.xmp.packet import NAMESPACES, Element, Packet, add_item, items, lay_out, words

_FLAT = "dc:subject"
_PATHS = {  # lists of hierarchical keywords, and what separates the levels
    "lr:hierarchicalSubject": "|",
    "digiKam:TagsList": "/",
    "MicrosoftPhoto:LastKeywordXMP": "/",
    "microsoft:LastKeywordXMP": "/",
    "mediapro:CatalogSets": "|",
}
KEYWORD_LISTS = (_FLAT, *_PATHS)
MARK = "tags"
_TWINS = {",": "，", "|": "｜", "/": "／"}  # the full-width form of each character that a program cuts keywords at
_CUTS = ",|"  # darktable cuts at both in every list


def merge(packet: Packet, labels: Sequence[str], mark: str = MARK) -> bool:
    """Make `labels` our keywords, and return whether that changed anything. Raises PacketError."""
    lists = _Lists.of(packet)
    before = lists.entries()
    ours = {name: words(bag) for name, bag in lists.ours.items()}
    mine = {*ours.pop(mark, ())}
    shared = {word for listed in ours.values() for word in listed}
    removed = {word for word in mine | shared if not lists.shows(word)}
    # Theirs are those that none of our lists has, and those of ours that somebody moved into a hierarchy.
    theirs = ((lists.subjects() | lists.tops()) - mine - shared) | ((lists.parts() & lists.subjects()) - lists.tops())
    wanted = list(dict.fromkeys(_spelled(label, _CUTS) for label in labels if label not in theirs))
    wanted = [word for word in wanted if word not in theirs]
    lists.remove(mine - {*wanted} - shared - theirs)
    lists.carry_over()
    lists.add(packet, [word for word in wanted if word not in removed])
    is_new = mark not in lists.ours
    if is_new or mine != {*wanted}:
        _replace(lists.mark(packet, mark), wanted)
    return is_new or before != lists.entries()


def add_keywords(packet: Packet, added: Iterable[str]) -> None:
    """Add keywords that are not ours to a packet, each once. Raises PacketError."""
    lists = _Lists.of(packet)
    lists.add(packet, list(dict.fromkeys(word for word in added if word not in lists.subjects())))
    lists.carry_over()


def has_other_marks(packet: Packet, mark: str) -> bool:
    """Whether the packet has our keywords of other photos, but not of this one."""
    ours = _Lists.of(packet).ours
    return bool(ours) and mark not in ours


@dataclass
class _Lists:
    """The containers of a packet's keywords: those that programs read, by name, and `ours`, by mark."""

    read: dict[str, list[Element]]
    ours: dict[str, Element] = field(default_factory=dict)

    @classmethod
    def of(cls, packet: Packet) -> "_Lists":
        read = {name: packet.containers(name) for name in KEYWORD_LISTS}
        start = f"{{{NAMESPACES['labelwise']}}}"
        names = [
            child.tag.removeprefix(start)
            for description in packet.descriptions
            for child in description.iterchildren(f"{start}*")
        ]
        ours = {name: packet.containers(f"labelwise:{name}")[0] for name in names}
        return cls({name: found for name, found in read.items() if found}, ours)

    def entries(self) -> list[tuple[str, list[str]]]:
        read = [(name, words(bag)) for name, bags in self.read.items() for bag in bags]
        return read + [(name, words(bag)) for name, bag in self.ours.items()]

    def subjects(self) -> set[str]:
        return {word for bag in self.read.get(_FLAT, ()) for word in words(bag)}

    def tops(self) -> set[str]:
        """Keywords in hierarchical lists that have no level above or below them."""
        return {word for word, separator in self._paths() if separator not in word}

    def parts(self) -> set[str]:
        """The levels of hierarchical keywords."""
        return {part for word, separator in self._paths() if separator in word for part in word.split(separator)}

    def _paths(self) -> list[tuple[str, str]]:
        return [(word, _PATHS[name]) for name in _PATHS for bag in self.read.get(name, ()) for word in words(bag)]

    def shows(self, word: str) -> bool:
        return word in self.parts() or any(
            _spelled(word, _cuts_in(name)) in words(bag) for name, bags in self.read.items() for bag in bags
        )

    def remove(self, gone: set[str]) -> None:
        for name, bags in self.read.items():
            spelled = gone | {_spelled(word, _cuts_in(name)) for word in gone}
            for bag in bags:
                found = [item for item, word in zip(items(bag), words(bag), strict=True) if word in spelled]
                for item in found:
                    bag.remove(item)
                if found:
                    lay_out(bag)

    def add(self, packet: Packet, added: Sequence[str]) -> None:
        if added and _FLAT not in self.read:
            self.read[_FLAT] = [packet.add_list(_FLAT, [])]
        for name, bags in self.read.items():
            there = {word for bag in bags for word in words(bag)}
            spelled = [_spelled(word, _cuts_in(name)) for word in added]
            _append(bags[0], [word for word in spelled if word not in there])

    def carry_over(self) -> None:
        """Add the keywords that only `dc:subject` has to the lists whose readers do not look there."""
        subjects = dict.fromkeys(word for bag in self.read.get(_FLAT, ()) for word in words(bag))
        for name, separator in _PATHS.items():
            if bags := self.read.get(name):
                there = {part for bag in bags for word in words(bag) for part in (word, *word.split(separator))}
                missing = [word for word in subjects if word not in there and not {*re.split("[|/]", word)} <= there]
                spelled = [_spelled(word, _cuts_in(name)) for word in missing]
                _append(bags[0], [word for word in spelled if word not in there])

    def mark(self, packet: Packet, mark: str) -> Element:
        if mark not in self.ours:
            self.ours[mark] = packet.add_list(f"labelwise:{mark}", [])
        return self.ours[mark]


def _append(bag: Element, added: Sequence[str]) -> None:
    for word in added:
        add_item(bag, word)
    if added:
        lay_out(bag)


def _replace(bag: Element, wanted: Sequence[str]) -> None:
    for item in items(bag):
        bag.remove(item)
    _append(bag, wanted)


def _cuts_in(name: str) -> str:
    """The characters that a keyword of ours may contain and that readers of this list cut at."""
    return "/" if _PATHS.get(name) == "/" else ""


def _spelled(word: str, cuts: str) -> str:
    return "".join(_TWINS[character] if character in cuts else character for character in word)
