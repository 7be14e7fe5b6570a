import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper import errors
from sweeper.provider import address, responses


@pytest.mark.parametrize(
    "url, origin, path",
    [
        ("https://api.fireworks.ai/inference", "https://api.fireworks.ai", "/inference"),
        ("https://api.fireworks.ai/inference/", "https://api.fireworks.ai", "/inference"),
        ("https://api.openai.com", "https://api.openai.com", ""),
        ("https://api.openai.com/", "https://api.openai.com", ""),
        ("HTTPS://Api.Example.COM:8443/A", "https://api.example.com:8443", "/A"),
        ("https://[2001:db8::1]:9/x", "https://[2001:db8::1]:9", "/x"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", ""),
        ("http://127.9.8.7", "http://127.9.8.7", ""),
        ("http://[::1]:8000/a/b", "http://[::1]:8000", "/a/b"),
        ("http://localhost:8000", "http://localhost:8000", ""),
    ],
)
def test_a_base_url_falls_into_origin_and_path(url: str, origin: str, path: str) -> None:
    assert address.split(url) == address.Address(origin=origin, path=path)
    responses.check_base_url(url)


@pytest.mark.parametrize(
    "url, reason",
    [
        ("", "write it like"),
        ("api.fireworks.ai", "write it like"),
        ("file:///etc/passwd", "write it like"),
        ("ftp://example.com", "write it like"),
        ("https://", "write it like"),
        ("https:///x", "write it like"),
        ("http://api.fireworks.ai", "loopback only"),
        ("http://10.0.0.1", "loopback only"),
        ("http://128.0.0.1", "loopback only"),
        ("http://0.0.0.0", "loopback only"),
        ("http://127.1", "loopback only"),
        ("http://localhost.example.com", "loopback only"),
        ("http://127.0.0.1.example.com", "loopback only"),
        ("http://[::ffff:127.0.0.1]", "neither a name"),
        ("http://[2001:db8::1]", "loopback only"),
        ("https://canary:canary@example.com", "no user or password"),
        ("http://127.0.0.1@canary.example.com", "no user or password"),
        ("https://example.com/a?canary", "leave out everything from"),
        ("https://example.com?", "leave out everything from"),
        ("https://example.com#canary", "leave out everything from"),
        ("https://example.com/a/../canary", "its path may hold"),
        ("https://example.com/./canary", "its path may hold"),
        ("https://example.com//canary", "its path may hold"),
        ("https://example.com/canary//", "its path may hold"),
        ("https://example.com/%2e%2e/canary", "its path may hold"),
        ("https://example.com/canary/v1", "leave out /v1"),
        ("https://example.com/canary b", "plain ASCII"),
        ("https://example.com/canary\n", "plain ASCII"),
        ("https://exämple.com/canary", "plain ASCII"),
        ("https://example.com:0", "its port"),
        ("https://example.com:65536", "its port"),
        ("https://example.com:x", "its port"),
        ("https://example.com\\canary", "plain ASCII"),
        ("https://-example.com", "neither a name"),
        ("https://canary_.example.com", "neither a name"),
        ("https://example..com", "neither a name"),
        ("https://[::canary]", "write it like|neither a name"),
        ("https://[1:2]", "write it like|neither a name"),
        (f"https://{'a' * 64}.com", "neither a name"),
        (f"https://{'a.' * 127}com", "neither a name"),
    ],
)
def test_any_other_base_url_is_refused_without_being_repeated(url: str, reason: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=reason) as caught:
        responses.check_base_url(url)
    assert "canary" not in str(caught.value)


@given(st.text(max_size=40))
def test_no_text_whatever_breaks_the_check(text: str) -> None:
    for url in (text, f"https://{text}", f"http://127.0.0.1{text}"):
        try:
            found = address.split(url)
        except errors.ConfigurationError:
            continue
        assert found.origin.startswith(("https://", "http://127.0.0.1", "http://localhost"))
        assert not {"..", ".", ""} & set(found.path.split("/")[1:])
