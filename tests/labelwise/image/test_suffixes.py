"""The list of suffixes covers every file that the decoder can open."""

import pytest
from PIL import Image

from labelwise.image import SUFFIXES
from labelwise.image.formats import accepted_formats


def test_every_suffix_that_pillow_knows_for_an_accepted_format_is_listed():
    formats = {*accepted_formats(), "MPO", "DIB"}  # two that Pillow opens as JPEG and BMP
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in formats}
    assert {".jfif", ".jpe", ".avifs"} <= known
    assert known <= {*SUFFIXES}


@pytest.mark.parametrize("suffix", [".hif", ".heic", ".heics", ".heif", ".heifs"])
def test_heic_is_listed_without_its_plugin_too(suffix: str):
    assert suffix in SUFFIXES  # so that such a photo is named as one that cannot be decoded, and not passed over
