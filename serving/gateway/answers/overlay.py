"""The picture of /v1/explain: the photo, a colour per label over the places where it was seen, and a legend below."""

import functools
import io
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from labelwise.attention import Located, spread
from labelwise.tagging import Tag

MOST_SIDE = 1024
_LEAST_WIDTH = 360  # below it the legend has no room; small photos are enlarged

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Canvas = NDArray[np.float32]  # [h, w, 3], 0 to 255

# Okabe and Ito's colours, which the colour-blind can tell apart too; the most different come first.
COLOURS: tuple[Colour, ...] = (
    *((230, 90, 0), (86, 180, 233), (240, 228, 66), (0, 180, 125), (220, 120, 180), (40, 110, 220), (255, 165, 0)),
)
_STRENGTH = 0.72  # opacity of a colour at the place that was looked at most
_CONTRAST = 6  # between labels that were seen at the same place
_COLOURLESS = 0.6  # share of the photo's own colours that is removed, so that those of the legend stand out
_OUTLINED = 0.5  # share of a map's largest value that the outline encloses
_UNSEEN = 0.4  # brightness of the parts that the model did not see

_PAPER, _INK, _FAINT = (24, 24, 27), (244, 244, 245), (161, 161, 170)
_TEXT, _PADDING = 15, 10  # pixels

# Fonts of Linux, Windows and macOS. The first font that has all letters of a text writes it.
_SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "unifont.otf"),
    *("arial.ttf", "msyh.ttc", "Arial Unicode.ttf", "Arial Unicode MS.ttf"),
)
_NOWHERE = "\U0010fffe"  # not a character: fonts draw it like any letter that they lack


def draw_overlay(photo: Image.Image, located: Located, tags: Sequence[Tag]) -> bytes:
    """PNG of `photo` (upright, RGB, no side above MOST_SIDE) with the first len(COLOURS) of `tags` and their maps."""
    shown = min(len(tags), len(COLOURS))
    if photo.width < _LEAST_WIDTH:
        height = min(round(photo.height * _LEAST_WIDTH / photo.width), MOST_SIDE)
        photo = photo.resize((_LEAST_WIDTH, height), Image.Resampling.BICUBIC)
    maps = spread(Located(located.maps[:shown], located.size, located.box), photo.size)
    pixels = _painted(_muted(photo), maps)
    pixels[~_seen(located, photo.size)] *= _UNSEEN
    legend = _legend(photo.width, tags[:shown], len(tags) - shown)
    whole = Image.new("RGB", (photo.width, photo.height + legend.height))
    whole.paste(Image.fromarray(pixels.round().astype(np.uint8)))
    whole.paste(legend, (0, photo.height))
    stream = io.BytesIO()
    whole.save(stream, "PNG", compress_level=4)
    return stream.getvalue()


def _muted(photo: Image.Image) -> Canvas:
    grey = np.asarray(photo.convert("L"), np.float32)[..., np.newaxis]
    return np.asarray(photo, np.float32) * (1 - _COLOURLESS) + grey * _COLOURLESS


def _painted(pixels: Canvas, maps: NDArray[np.float32]) -> Canvas:
    """Each map [h, w] in its colour. Where maps overlap, the strongest wins softly: a plain mean of their colours would
    be a grey that the legend does not have."""
    shares = np.maximum(maps, 1e-3) ** _CONTRAST
    palette = np.array(COLOURS[: len(maps)], np.float32).reshape(-1, 3)
    mixed = np.tensordot(shares / shares.sum(0), palette, (0, 0))
    cover = _STRENGTH * maps.max(0, initial=0)[..., np.newaxis]
    pixels = pixels * (1 - cover) + mixed * cover
    for colour, area in reversed(list(zip(COLOURS, maps, strict=False))):  # the best one on top
        line, halo = _outline(area >= _OUTLINED)
        pixels[halo] *= 0.35  # so that the line shows on a part as bright as itself
        pixels[line] = colour
    return pixels


def _outline(area: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The area's border and the pixels around the border, [h, w] each."""
    mask = Image.fromarray(area.astype(np.uint8) * 255)
    wide, wider, narrow = (
        np.asarray(mask.filter(rank)) > 0
        for rank in (ImageFilter.MaxFilter(3), ImageFilter.MaxFilter(5), ImageFilter.MinFilter(3))
    )
    border = wide & ~area
    return border, wider & ~narrow & ~border


def _seen(located: Located, size: tuple[int, int]) -> NDArray[np.bool_]:
    """bool [h, w]: whether a pixel lies in the box that the model saw."""
    left, top, right, bottom = located.box
    columns = (np.arange(size[0]) + 0.5) * located.size[0] / size[0]
    rows = (np.arange(size[1]) + 0.5) * located.size[1] / size[1]
    inside: NDArray[np.bool_] = (
        ((rows >= top) & (rows <= bottom))[:, np.newaxis] & (columns >= left) & (columns <= right)
    )
    return inside


def _legend(width: int, tags: Sequence[Tag], more: int) -> Image.Image:
    """A strip with swatch, label and score of each tag, in as many rows as it takes; faint if the label is no tag."""
    row = _TEXT + _PADDING
    room = width - row - 2 * _PADDING
    texts = [_fitting(*lettered(tag.label, _TEXT), f" {tag.score:.2f}", room) for tag in tags]
    places = list(_flow([font.getlength(text) + row + 2 * _PADDING for text, font in texts], width))
    remark = f"and {more} more" if more else "" if tags else "no label reaches its threshold"
    rows = max((line + 1 for _, line in places), default=0)
    strip = Image.new("RGB", (width, (rows + bool(remark)) * row + _PADDING), _PAPER)
    draw = ImageDraw.Draw(strip)
    for (text, font), colour, tag, (left, line) in zip(texts, COLOURS, tags, places, strict=False):
        x, y = left + _PADDING, line * row + _PADDING
        draw.rounded_rectangle((x, y, x + _TEXT, y + _TEXT), 3, colour)
        draw.text((x + row, y + _TEXT / 2), text, _INK if tag.is_tag else _FAINT, font, anchor="lm")
    draw.text((_PADDING, rows * row + _PADDING + _TEXT / 2), remark, _FAINT, lettered(remark, _TEXT)[1], anchor="lm")
    return strip


def _flow(widths: Sequence[float], room: int) -> Iterator[tuple[float, int]]:
    """Left edge and line of each item; the items follow one another like words in a text."""
    left, line = 0.0, 0
    for width in widths:
        if left and left + width > room:
            left, line = 0.0, line + 1
        yield left, line
        left += width


def _fitting(label: str, font: Font, score: str, room: float) -> tuple[str, Font]:
    """Label and score. The label is cut off if the strip is too narrow: the score matters more."""
    text = label + score
    while label and font.getlength(text) > room:
        label = label[:-1]
        text = f"{label}…{score}"
    return text, font


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
