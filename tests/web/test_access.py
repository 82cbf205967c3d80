"""Who is let in, and what a foreign page cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from colour_pipeline import picture_of
from starlette.testclient import TestClient
from web_world import jpeg

from edge_claid.errors import UsageError
from edge_claid.web import app as routes
from edge_claid.web.access import Access, is_loopback
from edge_claid.web.running import Running

TOKEN = "a-token-of-some-length"
WIDE = "http://192.168.1.20:8642"


@pytest.fixture
def guarded(running: Callable[..., Running]) -> Iterator[TestClient]:
    with TestClient(running(host="0.0.0.0", token=TOKEN).app, WIDE, follow_redirects=False) as client:
        yield client


def test_beyond_loopback_a_token_is_made() -> None:
    first, second = (Access.for_host("0.0.0.0", None).token for _ in range(2))
    assert first
    assert second
    assert first != second
    assert len(first) >= 32
    assert Access.for_host("127.0.0.1", None).token is None
    with pytest.raises(UsageError, match="at least 12"):
        Access.for_host("192.168.1.20", "secret")
    with pytest.raises(UsageError, match="empty"):
        Access.for_host("127.0.0.1", "")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.3.4.5", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.4", False), ("localhost.example.org", False), ("", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "path", ["/api/state", "/api/images", "/api/live", "/metrics", "/static/app.js", "/api/images/1/picture"]
)
def test_nothing_is_told_without_the_token(guarded: TestClient, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Cookie": f"edge_claid_session={TOKEN}"},
    ):
        answer = guarded.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "token" in answer.json()["error"]
    assert guarded.get(path, params={"token": TOKEN}).status_code == 401
    assert guarded.post("/api/search", content=jpeg(picture_of("red"))).status_code == 401
    assert guarded.delete("/api/images/1").status_code == 401


def test_a_program_shows_the_token(guarded: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/api/state", headers=headers).json()["token"] is True
    assert guarded.get("/metrics", headers=headers).status_code == 200


def test_a_person_logs_in(guarded: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "GUESS_SECONDS", 0.0)
    assert guarded.get("/").headers["location"] == "/login"
    assert "password" in guarded.get("/login").text
    assert guarded.get("/static/style.css").status_code == 200
    own = {"Origin": WIDE}
    wrong = guarded.post("/login", data={"token": "guess"}, headers=own)
    assert (wrong.status_code, "not the token" in wrong.text) == (401, True)
    right = guarded.post("/login", data={"token": TOKEN}, headers=own)
    assert (right.status_code, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/").status_code == 200
    assert guarded.get("/api/state").status_code == 200
    assert guarded.post("/logout", headers=own).headers["location"] == "/login"
    assert guarded.get("/api/state").status_code == 401


def test_a_foreign_name_that_points_here_gets_nothing(running: Callable[..., Running]) -> None:
    with TestClient(running().app, "http://127.0.0.1:8642") as client:
        for host in ("evil.example", "evil.example:8642", "127.0.0.1.evil.example", "", "[broken"):
            refused = client.get("/api/state", headers={"Host": host})
            assert refused.status_code == 421
        for host in ("localhost:9000", "127.0.0.1", "[::1]:8642", "LOCALHOST"):
            assert client.get("/api/state", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:9999"},
     {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_a_foreign_page_changes_nothing(running: Callable[..., Running], headers: dict[str, str]) -> None:
    with TestClient(running().app, "http://127.0.0.1:8642") as client:
        sent = jpeg(picture_of("red", shade=20))
        assert client.post("/api/images", params={"label": "x"}, content=sent, headers=headers).status_code == 403
        assert client.delete("/api/images/1", headers=headers).status_code == 403
        assert client.get("/api/state").json()["gallery"]["images"] == 4
        own = {"Origin": "http://127.0.0.1:8642", "Sec-Fetch-Site": "same-origin"}
        assert client.post("/api/search", content=sent, headers=own).status_code == 200


def test_every_answer_forbids_foreign_scripts_and_frames(running: Callable[..., Running]) -> None:
    with TestClient(running().app, "http://127.0.0.1:8642") as client:
        for path in ("/", "/static/app.js", "/api/state", "/nowhere", "/static/..%2Fapp.py"):
            headers = client.get(path).headers
            assert "script-src 'self'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["cross-origin-resource-policy"] == "same-origin"
        assert client.get("/static/..%2Fapp.py").status_code == 404
        assert "<script>" not in client.get("/").text
