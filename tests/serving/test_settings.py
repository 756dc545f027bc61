"""Settings that cannot work are refused at the start, not at each request."""

import pytest

from labelwise.errors import LabelwiseError
from serving.settings import load_settings, unknown_variables


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (f"{name}_timeout", value)
            for name in ("send", "request", "shutdown")
            for value in ("inf", "1e20", "0.0001")
        ),
        *((name, "99999999999") for name in ("threads", "session_threads", "keep_alive_timeout", "reload_interval")),
        *((name, "") for name in ("host", "keys", "repository", "default_model", "trace_endpoint")),
        *(("trace_endpoint", value) for value in ("collector", "grpc://collector:4317", "http://", "http://x:99999")),
        *(("triton_url", value) for value in ("http://a:8001", "a", "a:99999", "a:8001,b b:8001", "grpcs://a:8001")),
        *(("cors_origins", value) for value in ("a.org", "https://a.org/", "https://*.a.org", "HTTPS://a.org")),
        *(("allowed_hosts", value) for value in ("https://a.org", "a.org:8000", "*.a.org", "*", "münchen.de")),
        *(("fetch_hosts", value) for value in ("*", "https://a.org", "a.org:99999", "a.org:0", "[1:2:3]")),
    ],
)
def test_a_wrong_value_is_refused_at_the_start(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LABELWISE_{name.upper()}", value)
    with pytest.raises(LabelwiseError, match=rf"^The setting {name}\b[^\n\\]*\.$"):
        load_settings()


def test_contradicting_settings() -> None:
    with pytest.raises(LabelwiseError, match="name them in triton_url"):
        load_settings(engine="triton", triton_load=True)
    with pytest.raises(LabelwiseError, match="add --feedback"):
        load_settings(feedback_photos=True)


def test_good_values_are_accepted() -> None:
    settings = load_settings(
        engine="triton",
        triton_url="grpc://a:8001, [::1]:8001,",
        cors_origins="https://a.org,http://localhost:3000,http://[::1]:80,*",
        fetch_hosts="a.org,*.b.org:8080,[2001:db8::1]:80",
        allowed_hosts="",
        trace_endpoint="https://collector/otlp",
    )
    assert settings.triton_url == ("grpc://a:8001", "[::1]:8001")
    assert (len(settings.cors_origins), len(settings.fetch_hosts), settings.allowed_hosts) == (4, 3, ())


def test_a_mistyped_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    before = unknown_variables()
    monkeypatch.setenv("LABELWISE_MAX_BODYS", "1")
    monkeypatch.setenv("labelwise_max_body", "1")
    assert unknown_variables() == sorted(["LABELWISE_MAX_BODYS", *before])
