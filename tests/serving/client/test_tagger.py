"""What goes wrong, and where the client is used: one line that says what to do, never a hang."""

import asyncio
import functools
import http.server
import io
import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.client import (
    AsyncTagger,
    ClientClosed,
    ClientError,
    ServerFailed,
    ServerUnavailable,
    Tagger,
    Unauthorized,
    UnknownModel,
    WrongContract,
)
from serving.gateway.access.keys import add_key
from tests.conftest import ROOT, free_port, running_gateway
from tests.polling import PATIENCE


@pytest.mark.parametrize(
    ("servers", "model", "options", "words"),
    [
        ("localhost:8001", "scenes", {}, "written grpc://HOST:8001 or http://HOST:8000, not localhost:8001"),
        ([], "scenes", {}, "not nothing"),
        ("ftp://a", "scenes", {}, "not ftp://a"),
        ("grpc://a:1,http://b", "scenes", {}, "all Tritons"),
        ("grpc://a", "scenes", {}, "written grpc://HOST:8001 .*, not grpc://a"),
        ("http://a:99999", "scenes", {}, "not http://a:99999"),
        ([b"http://a"], "scenes", {}, "a string or a list of strings"),
        (None, "scenes", {}, "not nothing"),
        ("http://a", "scenes", {"key": "sec\nret"}, r"^The key is not valid: [^\n]*$"),
        ("http://a", "scenes", {"timeout": float("inf")}, "timeout is inf and must be a number above 0"),
        ("http://a", "scenes", {"timeout": None}, "timeout is None and must be"),
        ("grpc://a:8001", None, {}, "name one, such as model='scenes'"),
        ("grpc://a:8001", "scenes", {"key": "k"}, "Keys are the gateway's"),
        ("http://a:8000", "scenes", {"send": "pixels"}, "A gateway takes photos as bytes"),
        ("http://a:8000", "scenes", {"send": "jpeg"}, "not 'jpeg'"),
        ("http://a:8000", "scenes", {"in_flight": 0}, "in_flight is 0 and must be a whole number, at least 1"),
        ("http://a:8000", "scenes", {"batch": 1.5}, "batch is 1.5 and must be a whole number"),
        ("http://a:port", "scenes", {}, "not http://a:port"),
    ],
)
def test_bad_arguments_are_refused_at_once(servers: str, model: str, options: dict, words: str) -> None:
    with pytest.raises(ClientError, match=words):
        Tagger(servers, model, **options).connect()


@pytest.mark.parametrize(("name", "value"), [("ALL_PROXY", "nonsense://a"), ("SSL_CERT_FILE", "/nowhere/ca.pem")])
def test_bad_network_settings_of_the_environment_are_named_in_one_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ClientError, match=rf"^https://a cannot be asked with .*{name}.*: [^\n]+$"):
        Tagger("https://a", "scenes").connect()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_no_server(scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}"
    started = time.monotonic()
    with pytest.raises(ServerUnavailable, match=f"{url} does not answer"):
        Tagger(url, "scenes", connect_timeout=0.5).tag([b"x"])
    assert time.monotonic() - started < 5


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """An HTTP server that is no gateway, and answers one of its paths with something else."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1/models").write_text("<html>Models</html>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_something_else_at_the_address(website: str, triton_url: str, gateway_url: str) -> None:
    with pytest.raises(ServerFailed, match="it answered 404 File not found"):
        Tagger(website, "scenes").connect()
    with pytest.raises(ServerFailed, match="did not answer as a gateway does"):
        Tagger(website).connect()
    for url in (triton_url.replace("grpc:", "http:"), gateway_url.replace("http:", "grpc:")):
        with pytest.raises(ServerUnavailable, match=f"{url} does not answer"):
            Tagger(url, "scenes", connect_timeout=1).connect()


def test_no_such_model(triton_url: str, triton_gateway_url: str) -> None:
    for url in (triton_url, triton_gateway_url):
        with pytest.raises(UnknownModel, match=url):
            Tagger(url, "nobody").connect()


def test_a_part_of_the_ensemble_tells_no_contract(triton_url: str) -> None:
    with pytest.raises(WrongContract, match=r"scenes_model at .* export it again .* or name the ensemble"):
        Tagger(triton_url, "scenes_model").connect()


def test_other_labels_than_expected(triton_url: str) -> None:
    with pytest.raises(WrongContract, match=r"other labels than expected: desert, .*, not cat, dog"):
        Tagger(triton_url, "scenes", expect_labels=["cat", "dog"]).connect()
    with Tagger(triton_url, "scenes") as tagger:
        labels = tagger.spec.labels
    Tagger(triton_url, "scenes", expect_labels=labels).connect()


def test_a_key_where_one_is_needed(tmp_path: Path, photos: list[Path]) -> None:
    keys = tmp_path / "keys"
    key = add_key(keys, "test")
    with running_gateway("--keys", str(keys)) as (url, _):
        with pytest.raises(Unauthorized, match=url):
            Tagger(url, "scenes").connect()
        with Tagger(url, key=key) as tagger:  # and the only model needs no name
            assert tagger.spec.name == "scenes"
            assert tagger.tag(photos[:1])[0].error is None


@pytest.mark.parametrize("photos", ["photo.jpg", Path("photo.jpg"), b"bytes", np.zeros((9, 9, 3), np.uint8), 5])
def test_one_photo_is_not_a_list(photos: object, tagger: Tagger) -> None:
    with pytest.raises(ClientError, match="Give a list of photos"):
        tagger.tag(photos)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"labels": ["car"]}, "scenes has no such label: car; it has desert, "),
        ({"threshold": {"car": 0.5}}, "no such label: car"),
        ({"labels": "sea"}, "lists of labels"),
        ({"labels": ["sea"], "exclude": ["sea"]}, "exclude: this leaves none"),
        ({"threshold": 1.5}, "from 0 to 1, not 1.5"),
        ({"threshold": float("nan")}, "not nan"),
        ({"threshold": "0.9"}, "from 0 to 1, not '0.9'"),
        ({"threshold": [0.9] * 5}, "from 0 to 1, not"),
        ({"threshold": {"sea": "x"}}, "from 0 to 1, not 'x'"),
        ({"top_k": 0}, "top_k: must be .* not 0"),
        ({"top_k": 2.5}, "top_k: .* not 2.5"),
        ({"labels": [None]}, "lists of labels"),
    ],
)
def test_a_bad_choice_of_labels_is_refused(choice: dict, words: str, tagger: Tagger, photos: list[Path]) -> None:
    with pytest.raises(ClientError, match=words):
        tagger.tag(photos, **choice)


def test_an_empty_list_and_a_client_closed_twice(triton_url: str, photos: list[Path]) -> None:
    tagger = Tagger(triton_url, "scenes")
    assert tagger.tag([]) == []
    tagger.close()
    tagger.close()
    for call in (lambda: tagger.tag(photos), lambda: tagger.spec, tagger.connect):
        with pytest.raises(ClientClosed, match="is closed"):
            call()
    unused = Tagger(triton_url, "scenes")
    unused.close()


def test_several_threads_share_one(tagger: Tagger, photos: list[Path]) -> None:
    photos = photos[:8]
    expected = tagger.tag(photos)
    found: list[object] = [None] * 3

    def work(place: int) -> None:
        found[place] = tagger.tag(photos)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for results in found:
        assert [result.tags for result in results] == [result.tags for result in expected]  # type: ignore[attr-defined]


def test_closing_ends_the_calls_of_other_threads(triton_url: str, photos: list[Path]) -> None:
    tagger, ended = Tagger(triton_url, "scenes"), []
    first = threading.Event()

    def work() -> None:
        try:
            for _ in tagger.tag_stream(itertools.cycle(photos)):
                first.set()
        except ClientClosed as error:
            ended.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert first.wait(60)
    tagger.close()
    for thread in threads:
        thread.join(20)
    assert len(ended) == 2


def test_inside_a_running_loop(triton_url: str, photos: list[Path]) -> None:
    """As in Jupyter."""

    async def cell() -> int:
        with Tagger(triton_url, "scenes") as tagger:
            return len(tagger.tag(photos))

    assert asyncio.run(cell()) == len(photos)


def test_an_async_client_belongs_to_one_loop(triton_url: str, photos: list[Path]) -> None:
    async def tag(tagger: AsyncTagger) -> int:
        return len(await tagger.tag(photos[:1]))

    async def close(tagger: AsyncTagger) -> None:
        await tag(tagger)
        await tagger.close()
        with pytest.raises(ClientClosed):
            await tag(tagger)

    tagger = AsyncTagger(triton_url, "scenes")
    asyncio.run(close(tagger))
    asyncio.run(tagger.close())  # it is already
    left_open = AsyncTagger(f"http://127.0.0.1:{free_port()}", connect_timeout=0.1)
    with pytest.raises(ServerUnavailable):
        asyncio.run(tag(left_open))
    for use in (tag(tagger), tag(left_open), left_open.close()):
        with pytest.raises(ClientError, match="belongs to the event loop that used it first"):
            asyncio.run(use)


def test_a_stream_is_bounded_ordered_and_may_be_left(tagger: Tagger, photos: list[Path]) -> None:
    taken = 0

    def source():
        nonlocal taken
        for photo in itertools.cycle(photos):
            taken += 1
            yield photo

    stream = tagger.tag_stream(source())
    ids = [next(stream).id for _ in range(20)]
    stream.close()  # type: ignore[attr-defined]
    assert ids == [str(photo) for photo in itertools.islice(itertools.cycle(photos), 20)]
    assert taken < 200


def test_an_async_stream_yields_what_is_done_while_more_is_coming(triton_url: str, photos: list[Path]) -> None:
    async def first_result() -> str | int:
        never = asyncio.Event()

        async def source():
            yield photos[0]
            await never.wait()

        async with AsyncTagger(triton_url, "scenes") as tagger:
            async for result in tagger.tag_stream(source()):
                return result.id
        raise AssertionError

    assert asyncio.run(asyncio.wait_for(first_result(), 60)) == str(photos[0])


def test_an_error_of_the_source_reaches_the_caller(tagger: Tagger, photos: list[Path]) -> None:
    def source():
        yield photos[0]
        raise OSError("the disk is gone")

    stream = tagger.tag_stream(source())
    assert next(stream).id == str(photos[0])
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)
    with pytest.raises(OSError, match="the disk is gone"):
        tagger.tag(source())
    assert tagger.tag(photos[:1])[0].error is None


def test_numbers_of_numpy_and_labels_of_a_generator_count(tagger: Tagger, photos: list[Path]) -> None:
    (result,) = tagger.tag(photos[:1], threshold=np.float32(0), labels=(label for label in ("sea", "trees")))
    assert sorted(tag.label for tag in result.tags) == ["sea", "trees"]
    assert tagger.tag(photos[:1], threshold=np.int64(1))[0].tags == ()


def test_photos_that_change_after_they_were_given(tagger: Tagger, photos: list[Path]) -> None:
    """A camera's one buffer, an animation's one picture, a picture given many times."""
    pictures = [Image.open(photo).convert("RGB").resize((160, 120)) for photo in photos[:6]]
    expected = [result.scores for result in tagger.tag(list(map(np.asarray, pictures)))]

    def camera() -> Iterator[np.ndarray]:
        buffer = np.empty((120, 160, 3), np.uint8)
        for picture in pictures:
            buffer[:] = np.asarray(picture)
            yield buffer
        buffer[:] = 0

    def one_picture() -> Iterator[Image.Image]:
        shown = pictures[0].copy()
        for picture in pictures:
            shown.paste(picture)
            yield shown

    def numbered_bytes() -> Iterator[bytearray]:
        sent = bytearray()
        for picture in pictures:
            stream = io.BytesIO()
            picture.save(stream, "PNG")
            sent[:] = stream.getvalue()
            yield sent

    for source in (camera, one_picture, numbered_bytes):
        for result, scores in zip(tagger.tag(source()), expected, strict=True):
            assert result.scores == pytest.approx(scores, abs=1e-4)
    with Image.open(photos[0]) as lazy:
        results = tagger.tag([lazy] * 20)
    assert [result.error for result in results] == [None] * 20


def test_only_files_are_read(tagger: Tagger, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge.jpg").open("wb") as huge:
        huge.truncate(2**29)
    results = tagger.tag([tmp_path / "pipe", "/dev/zero", tmp_path / "huge.jpg"])
    assert [result.error and result.error.code for result in results] == ["file_unreadable"] * 2 + ["file_too_large"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_gets_an_error_and_no_crash(triton_url: str, photos: list[Path]) -> None:
    """gRPC would crash there; with `spawn` all is well."""
    with Tagger(triton_url, "scenes") as tagger:
        tagger.tag(photos[:1])
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                messages = []
                for attempt in (lambda: tagger.tag(photos), lambda: Tagger(triton_url, "scenes").tag(photos)):
                    try:
                        attempt()
                    except ClientError as error:
                        messages.append(str(error))
                os.write(write, "\n".join(messages).encode())
            finally:  # never on into the tests that are the parent's
                os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            first, second = pipe.read().splitlines()
        assert "belongs to the process that made it" in first
        assert "forked from one that uses gRPC" in second
        assert tagger.tag(photos[:1])[0].error is None
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(tags_in_another_process, (triton_url, photos[0])) is True


def tags_in_another_process(url: str, photo: Path) -> bool:
    with Tagger(url, "scenes") as tagger:
        return tagger.tag([photo])[0].error is None


def test_a_client_that_nobody_closes_ends_with_the_interpreter(triton_url: str, photos: list[Path]) -> None:
    code = f"""
from serving.client import Tagger
tagger = Tagger({triton_url!r}, "scenes")
stream = tagger.tag_stream([{str(photos[0])!r}] * 100)
print(next(stream).error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "None\n", "")
