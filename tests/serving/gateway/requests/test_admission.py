"""Places, photos and bytes of all requests together, and which upload is given up for others."""

import asyncio

import pytest

from serving.gateway.problems import GatewayError
from serving.gateway.requests.admission import Admission, Place
from serving.gateway.requests.pace import Pace

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_places_are_counted_and_given_back() -> None:
    admission = Admission(1, images=1, upload_bytes=1)
    with admission.place(60) as first:
        first.begin()
        with pytest.raises(GatewayError, match="try again") as refused, admission.place(60):
            pass
        assert refused.value.code == "overloaded"
    with pytest.raises(ZeroDivisionError), admission.place(60) as second:
        second.take_images(1 // admission.requests.taken)
    assert admission.requests.taken == 0


def test_a_request_takes_its_place_when_it_is_complete() -> None:
    admission = Admission(1, images=9, upload_bytes=100)
    with admission.place(60) as slow, admission.place(60) as ready:
        slow.take_bytes(10)
        ready.begin(images=1)
        with pytest.raises(GatewayError, match="worked on"):
            slow.begin(images=1)
        assert (admission.requests.taken, admission.images.taken, admission.upload_bytes.taken) == (1, 1, 10)
    assert (admission.requests.taken, admission.images.taken, admission.upload_bytes.taken) == (0, 0, 0)


def test_what_requests_hold_is_counted_together_and_given_back() -> None:
    admission = Admission(3, images=5, upload_bytes=100)
    with admission.place(60) as one, admission.place(60) as other:
        one.begin(images=3)
        other.begin(images=2)
        other.take_bytes(60)
        other.take_bytes(40)
        with pytest.raises(GatewayError, match="photos"):
            one.take_images(1)
        with pytest.raises(GatewayError, match="uploaded") as refused:
            one.take_bytes(1)
        assert refused.value.code == "overloaded"
    assert (admission.requests.taken, admission.images.taken, admission.upload_bytes.taken) == (0, 0, 0)


def test_fetches_have_a_limit_besides_the_places() -> None:
    admission = Admission(1, images=1, upload_bytes=1)
    with admission.place(60) as one, admission.place(60) as other, admission.place(60) as third:
        with one.fetch(), pytest.raises(GatewayError, match="fetched"), other.fetch():
            pass
        with other.fetch():
            third.begin(images=1)
    assert admission.fetches.taken == 0


async def uploading(admission: Admission, count: int, started: list[Place], stalled_for: float) -> str:
    """Holds so many bytes of an upload that does not go on."""
    with admission.place(60) as place:
        try:
            with place.upload(60):
                place.take_bytes(count)
                place.marked -= stalled_for
                started.append(place)
                await asyncio.sleep(60)
        except asyncio.TimeoutError:
            return "given up"
    return "complete"


async def test_the_upload_that_stalled_longest_makes_room_for_others() -> None:
    admission, started = Admission(3, images=3, upload_bytes=100), []
    waits = (30, 20, 0)
    first, second, third = (asyncio.create_task(uploading(admission, 30, started, wait)) for wait in waits)
    await asyncio.sleep(0)  # all of them run until they wait
    assert len(started) == 3
    with admission.place(60) as place, place.upload(60):
        place.take_bytes(20)
        assert await first == "given up"
        assert not second.done()
        place.take_bytes(30)
        assert await second == "given up"
        with pytest.raises(GatewayError, match="uploaded"):
            place.take_bytes(30)  # the third has not stalled
        assert not third.done()
        assert admission.upload_bytes.taken == 80
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    assert admission.upload_bytes.taken == 0
    assert not admission.uploads


async def test_a_slow_upload_that_makes_progress_has_not_stalled() -> None:
    with Admission(1, images=1, upload_bytes=2**20).place(60) as place:
        place.marked -= 60
        before = place.marked
        place.take_bytes(2**16 - 1)
        assert place.marked == before
        place.take_bytes(1)
        assert place.marked > before + 50


def test_a_request_is_refused_if_it_would_wait_too_long() -> None:
    """Two photos a second: twenty wait for ten seconds."""
    admission = Admission(100, images=100, upload_bytes=100)
    now = 0.0
    admission.pace = Pace(lambda: now)
    for _ in range(3):
        with admission.place(1) as place:  # nothing waits, so that nothing has to be expected
            place.begin(images=1)
            now += 0.5
            admission.pace.answered(1)
    with admission.place(60) as ahead:
        ahead.begin(images=20)
        with pytest.raises(GatewayError, match="in time") as refused, admission.place(11):
            pass
        assert refused.value.code == "overloaded"
        with admission.place(16) as place:
            place.begin(images=4)
        with admission.place(16) as place, pytest.raises(GatewayError, match="in time"):
            place.begin(images=6)
        assert admission.images.taken == 20
