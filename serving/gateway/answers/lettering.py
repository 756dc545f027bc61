"""Letters for labels in any script: Pillow's own font if it has them, otherwise a font of this system."""

import functools
import unicodedata

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Fonts of Linux, Windows and macOS. The first font that has all letters of a text writes it.
_SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "unifont.otf"),
    *("arial.ttf", "msyh.ttc", "Arial Unicode.ttf", "Arial Unicode MS.ttf"),
)
_NOWHERE = "\U0010fffe"  # not a character: fonts draw it like any letter that they lack


def lettered(text: str, size: int) -> tuple[str, Font]:
    """`text` and a font of `size` pixels that has its letters. If no font has them, the accents are left out."""
    for name in (None, *_SYSTEM_FONTS):
        font = _font(name, size)
        if font is not None and all(_has(font, letter) for letter in text):
            return text, font
    own = ImageFont.load_default(size)
    return "".join(letter if _has(own, letter) else _plain(letter) for letter in text), own


@functools.lru_cache
def _font(name: str | None, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None


@functools.lru_cache(4096)
def _has(font: Font, letter: str) -> bool:
    return letter == " " or bytes(font.getmask(letter)) != bytes(font.getmask(_NOWHERE))


def _plain(letter: str) -> str:
    """é -> e, ß -> ss; a letter without such a form stays."""
    decomposed = unicodedata.normalize("NFKD", letter.casefold() if letter == "ß" else letter)
    return "".join(part for part in decomposed if not unicodedata.combining(part))
