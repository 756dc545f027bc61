"""A label is there if all annotators chose it, and unknown if only some did."""

from labelwise.annotators import agreed


def test_all_have_to_agree():
    assert agreed([{"sea", "sky"}, {"sea"}]) == ({"sea"}, {"sky"})
    assert agreed([{"sea"}]) == ({"sea"}, set())
    assert agreed([set(), set()]) == (set(), set())
