"""The results are the same by every way: pixels or bytes to Triton, or the gateway; sync and async."""

import asyncio
import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from labelwise.spec import TaggerSpec
from serving.client import AsyncTagger, PhotoError, Tagger, TagResult
from tests.serving.bad_images import BROKEN_PROFILE, BROKEN_PROFILE_NOTE
from tests.serving.client.conftest import WAYS, Arguments

AGREE = 1e-4


@pytest.fixture(scope="session")
def asked(gateway_url: str, photos: list[Path]) -> list[dict]:
    """What the embedded engine's gateway says of each photo, asked without the client."""
    return [
        httpx.post(f"{gateway_url}/v1/tag", content=photo.read_bytes(), params={"scores": "all"}).json()
        for photo in photos
    ]


def same(result: TagResult, answer: dict) -> None:
    assert result.error is None
    assert (result.model, result.version) == (answer["model"], answer["version"])
    assert [(tag.label, tag.threshold) for tag in result.tags] == [
        (tag["label"], tag["threshold"]) for tag in answer["tags"]
    ]
    assert result.scores == pytest.approx({entry["label"]: entry["score"] for entry in answer["scores"]}, abs=AGREE)


def test_every_photo_has_the_gateways_tags(tagger: Tagger, photos: list[Path], asked: list[dict]) -> None:
    results = tagger.tag(photos)
    assert [result.id for result in results] == [str(photo) for photo in photos]
    assert len({*results, *results}) == len(results)
    for result, answer in zip(results, asked, strict=True):
        same(result, answer)


@pytest.mark.parametrize("way", WAYS)
def test_async_is_the_same(way: str, arguments: Arguments, photos: list[Path], asked: list[dict]) -> None:
    async def tagged() -> list[TagResult]:
        positional, named = arguments(way)
        async with AsyncTagger(*positional, **named) as tagger:
            assert await tagger.tag([]) == []
            return [result async for result in tagger.tag_stream(photo.read_bytes() for photo in photos)]

    results = asyncio.run(tagged())
    assert [result.id for result in results] == list(range(len(photos)))
    for result, answer in zip(results, asked, strict=True):
        same(result, answer)


def test_the_contract_comes_from_the_server(tagger: Tagger, repository: Path) -> None:
    assert tagger.spec == TaggerSpec.read(repository / "scenes")


@pytest.mark.parametrize("way", WAYS)
def test_notes_come_from_whatever_decodes(way: str, arguments: Arguments, photos: list[Path]) -> None:
    positional, named = arguments(way)
    told = () if way == "bytes" else (BROKEN_PROFILE_NOTE,)  # Triton has no output for them
    with Tagger(*positional, **named) as tagger:
        assert [result.notes for result in tagger.tag([photos[0], BROKEN_PROFILE, photos[1]])] == [(), told, ()]
        assert [result.notes for result in tagger.tag([BROKEN_PROFILE])] == [told]
        (explained,) = tagger.explain([BROKEN_PROFILE])
        (embedded,) = tagger.embed([BROKEN_PROFILE])
    assert explained.notes == (BROKEN_PROFILE_NOTE,)
    assert embedded.notes == told


def test_a_bad_photo_fails_no_other(tagger: Tagger, photos: list[Path], asked: list[dict], tmp_path: Path) -> None:
    broken = photos[0].read_bytes()[:2000]  # the others that are sent all have a tag
    nothing = tmp_path / "nothing.jpg"
    results = tagger.tag([photos[1], broken, photos[2], b"", tmp_path, nothing, b"text", None, photos[3]])  # type: ignore[list-item]
    assert [result.error and result.error.code for result in results] == [
        *(None, "image_broken", None, "image_empty", "file_unreadable", "file_missing"),
        *("image_format_unsupported", "not_a_photo", None),
    ]
    assert [result.tags == () for result in results] == [bool(result.error) for result in results]
    for place, answer in ((0, asked[1]), (2, asked[2]), (8, asked[3])):
        same(results[place], answer)
    assert results[4].error == PhotoError("file_unreadable", f"{tmp_path} is a folder: name the photos in it.")


def test_pictures_and_arrays_are_what_their_files_are(tagger: Tagger, photos: list[Path]) -> None:
    """Of every mode, and upright by EXIF; nothing is lost on the way."""
    picture = Image.open(photos[0]).convert("RGB").resize((200, 150))
    turned = picture.copy()
    turned.getexif()[0x0112] = 6
    forms = [picture, turned, picture.convert("L"), picture.convert("P"), picture.convert("CMYK")]
    files = [saved(form) for form in forms]
    for mine, theirs in zip(tagger.tag(forms), tagger.tag(files), strict=True):
        assert mine.error is None
        assert mine.scores == pytest.approx(theirs.scores, abs=AGREE)
    array, whole = tagger.tag([np.asarray(picture), picture])
    assert array.scores == pytest.approx(whole.scores, abs=AGREE)
    assert tagger.tag(np.stack([np.asarray(picture)] * 2))[1].scores == pytest.approx(whole.scores, abs=AGREE)


def saved(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF", exif=picture.getexif())
    return buffer.getvalue()


def test_choice_of_labels_and_thresholds(tagger: Tagger, photos: list[Path]) -> None:
    (plain,) = tagger.tag(photos[:1])
    (all_of_them,) = tagger.tag(photos[:1], threshold=0)
    assert {tag.label: tag.score for tag in all_of_them.tags} == pytest.approx(dict(plain.scores), abs=AGREE)
    (best,) = tagger.tag(photos[:1], threshold=0, top_k=2)
    assert best.tags == all_of_them.tags[:2]
    (some,) = tagger.tag(photos[:1], labels=["sea", "trees"], threshold={"sea": 0, "trees": 1})
    assert list(some.scores) == [tag.label for tag in all_of_them.tags if tag.label in ("sea", "trees")]
    assert [(tag.label, tag.threshold) for tag in some.tags] == [("sea", 0)]
    (others,) = tagger.tag(photos[:1], exclude=["sea"])
    assert set(others.scores) == set(plain.scores) - {"sea"}


def test_embeddings_are_the_gateways(tagger: Tagger, gateway_url: str, photos: list[Path]) -> None:
    results = tagger.embed([*photos[:3], b"no photo"], labels=["trees", "sea"])
    for photo, result in zip(photos[:3], results, strict=False):
        answer = httpx.post(f"{gateway_url}/v1/embed", content=photo.read_bytes(), params={"labels": "trees,sea"})
        expected = {entry["label"]: entry["values"] for entry in answer.json()["embeddings"]}
        assert result.labels == ("sea", "trees") == tuple(expected)
        assert result.embeddings is not None
        np.testing.assert_allclose(result.embeddings, [expected[label] for label in result.labels], atol=AGREE)
    assert results[3].embeddings is None
    assert results[3].error is not None


@pytest.fixture(scope="session")
def turned(photos: list[Path]) -> bytes:
    """A real photo that is stored on its side."""
    picture = Image.open(photos[0]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.rotate(90, expand=True).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("coordinates", ["upright", "stored"])
def test_explanations_are_the_gateways(
    tagger: Tagger, gateway_url: str, photos: list[Path], turned: bytes, coordinates: str
) -> None:
    sources = [photos[1].read_bytes(), turned, b"no photo"]
    for choice in ({}, {"labels": ["sea", "trees"]}):
        results = tagger.explain(sources, coordinates=coordinates, **choice)  # type: ignore[arg-type]
        query = {"coordinates": coordinates} | {name: ",".join(labels) for name, labels in choice.items()}
        for source, result in zip(sources[:2], results, strict=False):
            answer = httpx.post(f"{gateway_url}/v1/explain", content=source, params=query).json()
            image = answer["image"]
            assert (*result.size, result.orientation) == (image["width"], image["height"], image["orientation"])
            assert result.box == pytest.approx(answer["grid"]["box"])
            assert [seen.label for seen in result.labels] == [seen["label"] for seen in answer["labels"]]
            for mine, theirs in zip(result.labels, answer["labels"], strict=True):
                assert mine.score == pytest.approx(theirs["score"], abs=AGREE)
                assert mine.threshold == theirs["threshold"]
                np.testing.assert_allclose(mine.attention, theirs["attention"], atol=AGREE)
        assert results[2].error is not None
