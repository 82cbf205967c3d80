"""What the routes answer, asked without a socket."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from colour_pipeline import picture_of
from starlette.testclient import TestClient
from web_world import enrol, jpeg, wait_for

from edge_claid.gallery.store import Gallery
from edge_claid.web import uploads
from edge_claid.web.running import Running

LOCAL = "http://127.0.0.1:8642"


@pytest.fixture
def client(running: Callable[..., Running]) -> Iterator[TestClient]:
    with TestClient(running().app, LOCAL) as client:
        yield client


def labels(client: TestClient) -> list[str]:
    return [image["label"] for image in client.get("/api/images").json()["images"]]


def test_the_thing_in_a_box_is_found(client: TestClient) -> None:
    picture = np.concatenate([picture_of("red", shade=8), picture_of("blue", shade=9)], axis=1)
    for box, wanted in (("40,20,120,100", "red.png"), ("200,20,280,100", "blue.png")):
        found = client.post("/api/search", params={"box": box, "k": 2}, content=jpeg(picture)).json()
        assert found["images"] == 4
        assert len(found["hits"]) == 2
        best = found["hits"][0]
        assert best["image"]["path"] == wanted
        assert best["score"] > 0.9 > found["hits"][1]["score"]
        x0, y0, x1, y1 = best["box"]
        assert x0 < 80 < x1 <= best["image"]["width"]
        assert y0 < 60 < y1 <= best["image"]["height"]


def test_a_thing_that_was_enrolled_is_found_and_then_removed(client: TestClient, gallery: Path) -> None:
    new = picture_of("yellow", (320, 240), shade=40)
    new[:, :80] = (250, 20, 250)
    box = {"box": "0,0,80,240"}
    done = client.post("/api/images", params={"label": "  plum   jam ", **box}, content=jpeg(new))
    assert done.status_code == 201
    image = done.json()["image"]
    assert (image["label"], image["width"], image["height"]) == ("plum jam", 80, 240)
    files = list((gallery.parent / "shop.pictures").iterdir())
    assert [file.name for file in files] == [image["path"]]
    assert client.get("/api/state").json()["gallery"]["images"] == 5
    found = client.post("/api/search", params=box, content=jpeg(new)).json()["hits"]
    assert found[0]["image"] == image
    with Gallery.open(gallery) as store:
        assert len(store.images_labelled("plum jam")) == 1
    gone = client.delete(f"/api/images/{image['id']}").json()
    assert gone == {"removed": image, "file_removed": True}
    assert not files[0].exists()
    assert all(
        hit["image"] != image for hit in client.post("/api/search", params=box, content=jpeg(new)).json()["hits"]
    )
    assert client.delete(f"/api/images/{image['id']}").status_code == 404


def test_a_name_that_was_mistyped_is_given_anew(client: TestClient, gallery: Path) -> None:
    image = client.get("/api/images", params={"text": "red"}).json()["images"][0]
    done = client.patch(f"/api/images/{image['id']}", params={"label": " strawberry  jam "})
    assert done.json() == {"image": {**image, "label": "strawberry jam"}}
    assert "strawberry jam" in client.get("/api/state").json()["gallery"]["labels"]
    with Gallery.open(gallery) as store:
        assert len(store.images_labelled("strawberry jam")) == 1
    assert client.patch(f"/api/images/{image['id']}", params={"label": " "}).status_code == 400
    assert client.patch("/api/images/99", params={"label": "x"}).status_code == 404
    foreign = client.patch(f"/api/images/{image['id']}", params={"label": "x"}, headers={"Origin": "http://evil.test"})
    assert foreign.status_code == 403


def test_removing_leaves_pictures_that_others_enrolled(client: TestClient, gallery: Path) -> None:
    red = next(image for image in client.get("/api/images").json()["images"] if image["path"] == "red.png")
    assert client.delete(f"/api/images/{red['id']}").json()["file_removed"] is False
    assert (gallery.parent / "photos" / "red.png").exists()


def test_the_very_same_picture_is_renamed_and_not_kept_twice(client: TestClient, gallery: Path) -> None:
    sent = jpeg(picture_of("green", shade=50))
    first = client.post("/api/images", params={"label": "frog"}, content=sent).json()
    again = client.post("/api/images", params={"label": "tree frog"}, content=sent).json()
    assert (first["status"], again["status"]) == ("added", "unchanged")
    assert again["image"]["id"] == first["image"]["id"]
    assert again["image"]["label"] == "tree frog"
    assert len(list((gallery.parent / "shop.pictures").iterdir())) == 1


def test_the_newest_images_come_first_page_by_page(client: TestClient) -> None:
    seen, before = [], None
    while True:
        page = client.get("/api/images", params={"limit": 3, **({"before": before} if before else {})}).json()
        seen += [image["id"] for image in page["images"]]
        if (before := page["next"]) is None:
            break
    assert len(seen) == 4
    assert seen == sorted(seen, reverse=True)
    only = client.get("/api/images", params={"text": "BLUE"}).json()["images"]
    assert [image["path"] for image in only] == ["blue.png"]


def test_pictures_are_shown_small_and_kept_by_the_browser(client: TestClient) -> None:
    image = client.get("/api/images").json()["images"][0]
    answer = client.get(f"/api/images/{image['id']}/picture", params={"side": 64})
    assert answer.headers["content-type"] == "image/jpeg"
    assert uploads.frame_of(answer.content).size == (160, 120)
    again = client.get(f"/api/images/{image['id']}/picture", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_no_file_but_an_enrolled_picture_can_be_read(client: TestClient, gallery: Path, tmp_path: Path) -> None:
    """A hostile gallery may name any path; a file is shown only where its content is what was enrolled."""
    images = client.get("/api/images").json()["images"]
    secret = tmp_path / "secret.png"
    secret.write_bytes(jpeg(picture_of("blue", shade=77)))
    with Gallery.open(gallery, "rw") as store, store.writing() as connection:
        for image, path in zip(images, (b"../secret.png", os.fsencode(secret)), strict=False):
            connection.execute("UPDATE images SET path = ? WHERE id = ?", (path, image["id"]))
    for image in images[:2]:
        answer = client.get(f"/api/images/{image['id']}/picture")
        assert answer.status_code == 400
        assert "something else than was enrolled" in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "params", "status", "words"),
    [
        (b"", {}, 400, "empty"),
        (b"GIF89a" + b"\0" * 8, {}, 400, ""),
        (b"<html>no picture</html>", {}, 400, "not a picture"),
        (jpeg(picture_of("red")), {"box": "1,2,3"}, 400, "four numbers"),
        (jpeg(picture_of("red")), {"box": "900,900,950,950"}, 400, "outside"),
        (jpeg(picture_of("red")), {"box": "nan,0,5,5"}, 400, "four numbers"),
        (jpeg(picture_of("red")), {"k": "many"}, 400, "k:"),
    ],
)
def test_a_bad_search_says_what_is_wrong(
    client: TestClient, content: bytes, params: dict[str, str], status: int, words: str
) -> None:
    answer = client.post("/api/search", params=params, content=content)
    assert answer.status_code == status
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("params", "words"),
    [({"label": "  "}, "name"), ({"label": "x" * 300}, "300 characters"), ({"label": "a\x07b"}, "cannot be shown"),
     ({"label": "dot", "box": "0,0,5,5"}, "too small"), ({}, "label:")],
)  # fmt: skip
def test_a_bad_enrolment_leaves_nothing_behind(
    client: TestClient, gallery: Path, params: dict[str, str], words: str
) -> None:
    answer = client.post("/api/images", params=params, content=jpeg(picture_of("red", shade=60)))
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert client.get("/api/state").json()["gallery"]["images"] == 4
    assert not any((gallery.parent / "shop.pictures").glob("*"))


@pytest.mark.parametrize("number", ["9" * 30, str(2**63), "-1", "1.5", "x"])
def test_numbers_that_no_image_can_have(client: TestClient, number: str) -> None:
    for answer in (
        client.get(f"/api/images/{number}/picture"),
        client.delete(f"/api/images/{number}"),
        client.get("/api/images", params={"before": number}),
    ):
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("wrong request: ")


def test_what_nobody_expected_is_an_answer_and_a_line_in_the_log(
    running: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = running()
    monkeypatch.setattr(server.server.service, "info", lambda: 1 / 0)
    with TestClient(server.app, LOCAL) as client, caplog.at_level("INFO"):
        answer = client.get("/api/state")
    assert (answer.status_code, "ZeroDivisionError" in answer.json()["error"]) == (500, True)
    assert answer.headers["x-content-type-options"] == "nosniff"
    told = [record for record in caplog.records if record.name.startswith("edge_claid")]
    assert [(record.levelname, record.exc_info) for record in told] == [("ERROR", None)]


def test_uploads_are_bounded_while_they_arrive(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads.body_of, "__defaults__", (2_000_000,))
    # In parts, without saying how much is to come.
    assert client.post("/api/search", content=iter([b"\xff" * 1_000_000] * 3)).status_code == 413
    told = client.post("/api/search", content=b"x", headers={"Content-Length": "999999999"})
    assert told.status_code == 413
    # 60,000 x 60,000 pixels in a few bytes: refused by its header, before anything is decoded.
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 60000, 60000, 8, 2, 0, 0, 0) + b"\0" * 60
    assert "too large" in client.post("/api/search", content=head).json()["error"]


def test_too_much_at_once_is_refused_and_the_rest_answered(running: Callable[..., Running]) -> None:
    server = running()
    places = server.server.describing._places
    with TestClient(server.app, LOCAL) as client:
        sent = jpeg(picture_of("red"))
        taken = 0
        while places.acquire(blocking=False):
            taken += 1
        assert taken == 8
        refused = client.post("/api/search", content=sent)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        for _ in range(taken):
            places.release()
        assert client.post("/api/search", content=sent).status_code == 200


def test_what_others_enrol_appears_without_a_restart(client: TestClient, gallery: Path, tmp_path: Path) -> None:
    more = tmp_path / "more" / "violet.png"
    more.parent.mkdir()
    pixels = np.full((120, 160, 3), (150, 20, 240), np.uint8)
    more.write_bytes(jpeg(pixels))
    enrol(gallery, more.parent, "violet")
    wait_for(lambda: client.get("/api/state").json()["gallery"]["images"] == 5)
    found = client.post("/api/search", content=jpeg(pixels[:100])).json()["hits"]
    assert found[0]["image"]["label"] == "violet"


def test_a_gallery_of_another_pipeline_is_refused_and_the_old_one_goes_on(
    client: TestClient, gallery: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.claid"
    enrol(other, tmp_path / "photos", id="other networks")
    for leftover in ("-wal", "-shm"):
        Path(f"{other}{leftover}").unlink(missing_ok=True)
        Path(f"{gallery}{leftover}").unlink(missing_ok=True)
    other.replace(gallery)
    notice = wait_for(lambda: client.get("/api/state").json()["notice"])
    assert "belongs to another pipeline" in notice
    assert "going on with the gallery as it was" in notice
    found = client.post("/api/search", params={"k": 1}, content=jpeg(picture_of("red", shade=3))).json()["hits"]
    assert (found[0]["image"]["path"], found[0]["box"]) == ("red.png", None)
    refused = client.post("/api/images", params={"label": "late"}, content=jpeg(picture_of("red", shade=61)))
    assert refused.status_code == 409
    assert "belongs to another pipeline" in refused.json()["error"]
    assert not any((gallery.parent / "shop.pictures").iterdir())


def test_names_are_text_wherever_they_appear(client: TestClient) -> None:
    name = "<img src=x onerror=alert(1)>"
    sent = jpeg(picture_of("red", shade=70))
    assert client.post("/api/images", params={"label": name}, content=sent).json()["image"]["label"] == name
    answer = client.get("/api/images")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert name in labels(client)


def test_figures_for_prometheus(client: TestClient) -> None:
    client.post("/api/search", content=jpeg(picture_of("red")))
    text = client.get("/metrics").text
    assert "edge_claid_gallery_images 4" in text
    assert 'edge_claid_work_seconds_count{work="search"} 1' in text
    assert 'edge_claid_http_answers_total{status="200"} 1' in text


def test_only_what_was_shown_is_sought_until_it_is_given_up(running: Callable[..., Running], clip: Path) -> None:
    with TestClient(running(source=str(clip)).app, LOCAL) as client:
        assert client.get("/api/state").json()["seeking"] is None
        sent = {"params": {"name": " my  cup ", "box": "0,0,60,60"}, "content": jpeg(picture_of("blue", shade=8))}
        assert client.post("/api/live/seek", **sent).json() == {"seeking": "my cup"}
        assert client.get("/api/state").json()["seeking"] == "my cup"
        outside = client.post("/api/live/seek", params={"box": "900,900,950,950"}, content=sent["content"])
        assert (outside.status_code, "outside" in outside.json()["error"]) == (400, True)
        assert client.get("/api/state").json()["seeking"] == "my cup"
        assert client.post("/api/live/seek", content=sent["content"]).json() == {"seeking": "this"}
        assert client.delete("/api/live/seek").json() == {"seeking": None}


def test_nothing_can_be_sought_without_a_live_picture(client: TestClient) -> None:
    refused = client.post("/api/live/seek", content=jpeg(picture_of("blue", shade=8)))
    assert (refused.status_code, "--source" in refused.json()["error"]) == (400, True)
