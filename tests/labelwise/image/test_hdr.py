"""HDR photos come out as their SDR versions."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from labelwise.image import load_photo, open_rgb
from labelwise.image.cicp import Cicp
from labelwise.image.hdr import to_sdr
from tests.labelwise.image.hdr_twins import HLG, PQ, as_levels, avif, hdr_signal, pq
from tests.labelwise.image.profiles import SRGB_COLORANTS, SRGB_CURVE, rgb_profile

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", params=range(3))
def sdr(request: pytest.FixtureRequest, photos: list[Path]) -> Image.Image:
    return Image.open(photos[request.param]).convert("RGB").resize((160, 120))


def assert_is_twin(data: bytes, sdr: Image.Image) -> None:
    """Lossy formats at 8 bits have few levels for the part of PQ that SDR uses; read as SDR, the mean differs by 25."""
    difference = np.asarray(open_rgb(data), np.int16) - np.asarray(sdr)
    assert abs(difference.mean()) < 2.5
    assert np.abs(difference).mean() < 4
    assert np.quantile(np.abs(difference), 0.99) <= 16
    assert load_photo(data, 16, 16).notes == ()


def test_hdr_read_as_sdr_looks_different(sdr: Image.Image):
    difference = np.asarray(as_levels(hdr_signal(sdr, PQ)), np.int16) - np.asarray(sdr)
    assert np.abs(difference).mean() > 20


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_an_hdr_avif_shows_what_its_sdr_twin_shows(transfer: int, sdr: Image.Image):
    assert_is_twin(avif(as_levels(hdr_signal(sdr, transfer)), 9, transfer), sdr)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_an_hdr_png_states_so_in_its_cicp_chunk(transfer: int, sdr: Image.Image):
    info = PngImagePlugin.PngInfo()
    info.add(b"cICP", bytes([9, transfer, 0, 1]))
    stream = io.BytesIO()
    as_levels(hdr_signal(sdr, transfer)).save(stream, "PNG", pnginfo=info)
    assert_is_twin(stream.getvalue(), sdr)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_an_icc_profile_may_state_hdr_in_its_cicp_tag(format: str, sdr: Image.Image):
    profile = rgb_profile("Rec. 2100 PQ", SRGB_COLORANTS, SRGB_CURVE, cicp=(9, PQ))
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    stream = io.BytesIO()
    as_levels(hdr_signal(sdr, PQ)).save(stream, format, icc_profile=profile, **options)
    assert_is_twin(stream.getvalue(), sdr)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_10_bit_heic_shows_what_its_sdr_twin_shows(transfer: int, sdr: Image.Image):
    heif = pytest.importorskip("pillow_heif")
    samples = (hdr_signal(sdr, transfer) * 65535).round().astype(np.uint16)
    numbers = {"color_primaries": 9, "transfer_characteristics": transfer, "matrix_coefficients": 9}
    stream = io.BytesIO()
    picture = heif.from_bytes("RGB;16", sdr.size, samples.tobytes())
    picture.save(stream, quality=95, chroma=444, full_range_flag=1, save_nclx_profile=True, **numbers)
    assert_is_twin(stream.getvalue(), sdr)


_PEAK = """
import sys
from labelwise.image import load_pixels
from tests.labelwise.image_fuzz import peak_memory
data = open(sys.argv[1], "rb").read()
before = peak_memory()
load_pixels(data, 128, 128)
print(peak_memory() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_a_pixel_takes_at_most_18_bytes_while_it_is_converted(tmp_path: Path):
    side = 2000
    file = tmp_path / "hdr.avif"
    file.write_bytes(avif(Image.linear_gradient("L").resize((side, side)).convert("RGB"), 9, HLG))
    run = subprocess.run([sys.executable, "-c", _PEAK, file], cwd=ROOT, capture_output=True, check=True)
    assert 4 * side**2 < int(run.stdout) < 18 * side**2 + 2**24


def ramp(brightest: float) -> Image.Image:
    """Greys from black to `brightest` cd/m2 in PQ, from left to right, each of the same width."""
    light = np.linspace(0, brightest, 256)
    return as_levels(np.broadcast_to(pq(light)[:, np.newaxis], (16, 256, 3)))


def test_highlights_are_rolled_off_and_the_rest_stays():
    light = np.linspace(0, 1000, 256)
    shown = np.asarray(to_sdr(ramp(1000), Cicp(9, PQ)), np.int16)[8, :, 0]
    linear = light / 203
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    below_knee = light < 80  # cd/m2; by BT.2390 the knee of a picture of 1000 cd/m2 is at about 90
    assert below_knee.sum() > 15
    assert np.abs(shown - expected)[below_knee].max() <= 3
    assert (np.diff(shown) >= 0).all()
    assert shown[-1] == 255
    assert 215 < shown[np.searchsorted(light, 203)] < 240  # SDR's white makes room for what is brighter
    assert len(set(shown[light > 203])) > 15


def test_a_picture_within_sdr_white_is_not_darkened():
    assert np.asarray(to_sdr(ramp(203), Cicp(9, PQ)))[8, -1, 0] >= 253
    assert np.asarray(to_sdr(ramp(100), Cicp(9, PQ)))[8, -1, 0] == pytest.approx(186, abs=2)


def test_a_sparkle_does_not_darken_the_picture(sdr: Image.Image):
    levels = as_levels(hdr_signal(sdr, PQ))
    sparkling = levels.copy()
    sparkling.paste((230, 230, 230), (0, 0, 3, 3))
    plain, shown = (np.asarray(to_sdr(image, Cicp(9, PQ)), np.int16) for image in (levels, sparkling))
    assert np.abs(plain - shown)[4:].max() <= 1
    assert (shown[:3, :3] == 255).all()
