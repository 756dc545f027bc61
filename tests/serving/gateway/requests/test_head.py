import pytest

from serving.gateway.requests.head import Header, HeadRefused, check_head, host_of, resolve_target


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"Example.org:8000", "example.org"),
        (b"example.org.", "example.org."),
        (b"127.0.0.1", "127.0.0.1"),
        (b"[::1]:80", "::1"),
        (b"[2001:DB8::0001]", "2001:db8::1"),
        (b"", ""),
        (b"[::1", None),
        (b"::1", None),
        (b"[example.org]", None),
        (b"[::1]x", None),
        (b"[[::1]]", None),
        (b"[::1%25eth0]", "::1%25eth0"),
        (b"a b", None),
        (b"a:b", None),
        (b"a:1:2", None),
        (b"a/b", None),
        ("münchen".encode(), None),
    ],
)
def test_the_host_of_an_authority(authority: bytes, host: str | None) -> None:
    assert host_of(authority) == host


def refusal(version: str, headers: list[Header]) -> str | None:
    try:
        check_head(version, headers)
    except HeadRefused as refused:
        return refused.code
    return None


def test_a_head_has_one_well_formed_host() -> None:
    host = (b"host", b"localhost")
    assert refusal("1.1", [host]) is None
    assert refusal("1.0", []) is None
    for headers in ([], [host, host], [(b"host", b"[")]):
        assert refusal("1.1", headers) == "malformed_request"


@pytest.mark.parametrize(
    ("version", "codings", "problem"),
    [
        ("1.1", [b"chunked"], None),
        ("1.1", [b" Chunked "], None),
        ("1.0", [b"chunked"], "malformed_request"),
        ("1.1", [b"chunked, chunked"], "malformed_request"),
        ("1.1", [b"gzip, chunked"], "transfer_coding_unsupported"),
        ("1.1", [b"gzip", b"chunked"], "transfer_coding_unsupported"),
        ("1.1", [b"identity"], "transfer_coding_unsupported"),
        ("1.1", [b""], "transfer_coding_unsupported"),
    ],
)
def test_only_chunked_is_read(version: str, codings: list[bytes], problem: str | None) -> None:
    headers = [(b"host", b"localhost"), *((b"transfer-encoding", coding) for coding in codings)]
    assert refusal(version, headers) == problem
    assert problem or check_head(version, headers)
    assert not check_head(version, headers[:1])


def test_only_http_1_has_such_heads() -> None:
    for version in ("0.9", "2.0"):
        assert refusal(version, [(b"host", b"localhost")]) == "malformed_request"


def test_the_target_names_the_host_where_it_is_a_url() -> None:
    headers = [(b"accept", b"*/*"), (b"host", b"evil.example")]
    assert resolve_target(b"GET", b"/v1/tag?a", headers) == (b"/v1/tag?a", headers)
    assert resolve_target(b"OPTIONS", b"*", headers) == (b"*", headers)
    replaced = [(b"host", b"localhost:8000"), (b"accept", b"*/*")]
    for rest, path in ((b"", b"/"), (b"?x=1", b"/?x=1"), (b"/v1/tag?x=/", b"/v1/tag?x=/")):
        assert resolve_target(b"GET", b"http://localhost:8000" + rest, headers) == (path, replaced)
    for target in (b"http:///v1", b"ftp://localhost/", b"*", b"localhost:80", b"http://user@localhost/"):
        with pytest.raises(HeadRefused, match="malformed_request"):
            resolve_target(b"GET", target, headers)
