import pytest

from serving.admission import Admission
from serving.errors import GatewayError


def test_places_are_counted_and_given_back() -> None:
    admission = Admission(1)
    with admission.place(), pytest.raises(GatewayError, match="try again") as refused, admission.place():
        pass
    assert refused.value.code == "overloaded"
    with pytest.raises(ZeroDivisionError), admission.place():
        raise ZeroDivisionError
    assert admission.taken == 0
