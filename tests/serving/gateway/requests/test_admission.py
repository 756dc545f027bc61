import pytest

from serving.gateway.errors import GatewayError
from serving.gateway.requests.admission import Admission


def test_places_are_counted_and_given_back() -> None:
    admission = Admission(1, images=1, upload_bytes=1)
    with admission.place(), pytest.raises(GatewayError, match="try again") as refused, admission.place():
        pass
    assert refused.value.code == "overloaded"
    with pytest.raises(ZeroDivisionError), admission.place():
        raise ZeroDivisionError
    assert admission.taken == 0


def test_what_requests_hold_is_counted_together_and_given_back() -> None:
    admission = Admission(3, images=5, upload_bytes=100)
    with admission.place() as one, admission.place() as other:
        one.take_images(3)
        other.take_images(2)
        other.take_bytes(60)
        other.take_bytes(40)
        with pytest.raises(GatewayError, match="photos"):
            one.take_images(1)
        with pytest.raises(GatewayError, match="uploaded") as refused:
            one.take_bytes(1)
        assert refused.value.code == "overloaded"
    assert (admission.taken, admission.images.taken, admission.upload_bytes.taken) == (0, 0, 0)
