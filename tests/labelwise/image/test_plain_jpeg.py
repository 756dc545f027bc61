"""Which JPEGs any decoder shows alike."""

import io

import pytest
from PIL import Image, ImageCms

from labelwise.image.cicp import PRIMARIES, srgb
from labelwise.image.icc import make_profile
from labelwise.image.image_errors import ImageTooLargeError
from labelwise.image.opening import MAX_PIXELS
from labelwise.image.plain_jpeg import PlainJpeg, read_plain_jpeg
from tests.conftest import ROOT

PHOTOS = sorted((ROOT / "tests/assets").glob("photos*/*.jpg"))


def encoded(mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    with Image.open(PHOTOS[0]) as image:
        image.resize((60, 40)).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def with_components(data: bytes, names: bytes) -> bytes:
    """The same file with other names of its components."""
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    changed = bytearray(data)
    changed[frame + 10 : frame + 19 : 3] = changed[scan + 5 : scan + 11 : 2] = names
    return bytes(changed)


PLAIN = encoded()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = Image.Exif()
EXIF[0x0112] = 6


def test_the_photos_here_are_plain() -> None:
    for photo in PHOTOS:
        data = photo.read_bytes()
        with Image.open(photo) as image:
            assert read_plain_jpeg(data, MAX_PIXELS) == PlainJpeg(image.size, 1, len(data)), photo


@pytest.mark.parametrize(
    "data",
    [
        *(encoded(subsampling=subsampling) for subsampling in (0, 1, 2)),
        encoded(icc_profile=SRGB),
        encoded(restart_marker_rows=1),
        encoded(optimize=True),
    ],
)
def test_plain_ones(data: bytes) -> None:
    assert read_plain_jpeg(data, MAX_PIXELS) == PlainJpeg((60, 40), 1, len(data))


def test_the_orientation_and_the_end_are_told() -> None:
    turned = encoded(exif=EXIF)
    assert read_plain_jpeg(turned + PLAIN, MAX_PIXELS) == PlainJpeg((60, 40), 6, len(turned))


@pytest.mark.parametrize(
    "data",
    [
        encoded("L"),
        encoded("CMYK"),
        encoded(progressive=True),
        encoded(icc_profile=make_profile(PRIMARIES[12], srgb)),  # Display P3
        encoded(icc_profile=b"broken"),
        encoded(keep_rgb=True),
        with_components(PLAIN, b"RGB"),
        with_components(PLAIN, b"\0\1\2"),
        PLAIN[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0" + PLAIN[2:],  # Adobe's mark of RGB
        PLAIN[:-2],
        PLAIN[: len(PLAIN) // 2],
        PLAIN.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),  # 12 bits
        PLAIN.replace(b"\xff\xc0", b"\xff\xc1"),
        PLAIN.replace(b"\xff\xc0", b"\xff\xc9"),  # arithmetic coding
        PLAIN[: PLAIN.index(b"\xff\xda")] + PLAIN,
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_others_are_for_the_cpu(data: bytes) -> None:
    assert read_plain_jpeg(data, MAX_PIXELS) is None


def test_one_that_is_too_large_is_refused() -> None:
    with pytest.raises(ImageTooLargeError):
        read_plain_jpeg(PLAIN, 1000)
