"""What a request may do besides tagging, by its key and by what the operator switched on."""

from pathlib import Path

import pytest
from fastapi import Request

from serving.gateway.access.scopes import allowed, require
from serving.gateway.problems import GatewayError
from serving.settings import Settings, load_settings

TEACHING, ALL = load_settings(teach=True), load_settings(teach=True, feedback=Path("feedback.db"))


def request(*key_may: str, has_key: bool = True) -> Request:
    return Request({"type": "http", "state": {"key_may": key_may} if has_key else {}})


def test_without_keys_all_is_allowed_that_is_switched_on() -> None:
    anyone = request(has_key=False)
    assert [allowed(anyone, settings) for settings in (load_settings(), TEACHING, ALL)] == [
        (),
        ("teach",),
        ("teach", "feedback"),
    ]
    require(anyone, ALL, "feedback")
    assert allowed(anyone, load_settings(teach=True, keys=Path("keys.txt"))) == ()


@pytest.mark.parametrize(
    ("settings", "key_may", "advice"),
    [
        (load_settings(), ("teach",), "labelwise serve --teach"),
        (TEACHING, (), "labelwise keys add NAME --may teach"),
        (TEACHING, ("feedback",), "may=teach"),
    ],
)
def test_a_refusal_says_what_to_do(settings: Settings, key_may: tuple[str, ...], advice: str) -> None:
    with pytest.raises(GatewayError, match=advice) as refusal:
        require(request(*key_may), settings, "teach")
    assert refusal.value.code == "forbidden"
    assert "teach" not in allowed(request(*key_may), settings)
