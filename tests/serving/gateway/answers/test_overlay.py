"""Labels in any script have letters, or at least some."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from serving.gateway.answers import overlay
from serving.gateway.answers.overlay import lettered


@pytest.mark.parametrize("text", ["plain words 0.98", "…"])
def test_what_pillows_own_font_has_needs_no_other(text: str) -> None:
    shown, font = lettered(text, 15)
    assert shown == text
    assert isinstance(font, ImageFont.FreeTypeFont)
    assert font.getname() == ImageFont.load_default(15).getname()


def test_without_another_font_accents_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "_SYSTEM_FONTS", ("no such font.ttf",))
    assert lettered("Forêt, größe, Łódź", 15)[0] == "Foret, grosse, Łodz"
    assert lettered("海", 15)[0] == "海"  # nothing is better than a box, which says that there is a label


def test_a_font_of_the_system_writes_what_it_can() -> None:
    try:
        ImageFont.truetype("DejaVuSans.ttf", 15)
    except OSError:
        pytest.skip("no DejaVu Sans on this machine")
    pictures = []
    for text in ("größe", "лес", "θάλασσα"):
        shown, font = lettered(text, 15)
        assert shown == text
        picture = Image.new("L", (120, 30))
        ImageDraw.Draw(picture).text((2, 2), shown, 255, font)
        pictures.append(np.asarray(picture))
    assert all(picture.any() for picture in pictures)
    assert not np.array_equal(pictures[1], pictures[2])
