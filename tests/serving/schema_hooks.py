"""Lets schemathesis send real photos, not only random bytes. test_schema.py runs it."""

import schemathesis
from hypothesis import strategies

from tests.conftest import ROOT
from tests.serving.bad_images import REFUSED, TAGGED

_good = [photo.read_bytes() for photo in sorted((ROOT / "tests/assets/photos").glob("*.jpg"))] + list(TAGGED.values())
_photos = strategies.sampled_from(_good) | strategies.sampled_from([data for data, _, _ in REFUSED.values()])

for kind in ("image/*", "image/jpeg", "image/png", "image/webp", "image/gif"):
    schemathesis.openapi.media_type(kind, _photos)
schemathesis.openapi.format("binary", _photos | strategies.binary(max_size=64))
