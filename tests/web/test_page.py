"""The page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from colour_pipeline import picture_of
from web_world import jpeg

from edge_claid.gallery.store import Gallery

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine (Debian: apt-get install chromium)", allow_module_level=True)
SECONDS = 30_000  # ms that anything may take on a busy machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages; whatever a page complains of in its console fails the test."""
    contexts, complaints = [], []

    def open(address: str, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(SECONDS)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
        page.goto(address)
        return page

    yield open
    for context in contexts:
        context.close()
    assert complaints == []


def kept(page: Any, name: str) -> None:
    """A screenshot to be looked at, where EDGE_CLAID_SCREENSHOTS names a folder."""
    folder = os.environ.get("EDGE_CLAID_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def until(page: Any, true: str, arg: Any = None) -> None:
    """Wait for a JavaScript expression; Playwright's own way is forbidden by the page's security policy."""
    for _ in range(SECONDS // 100):
        if page.evaluate(true, arg):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"still not: {true}")


def square_of(page: Any) -> tuple[float, float, float, float]:
    """Where the blue square is on the page: left, top, right, bottom in CSS pixels."""
    frame = page.locator("#frame").bounding_box()
    content = page.locator("#picture").evaluate("c => c.toDataURL('image/png').split(',')[1]")
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR_RGB)
    blue = (pixels[..., 2] > 170) & (pixels[..., 0] < 110)
    ys, xs = np.nonzero(blue)
    scale = frame["width"] / pixels.shape[1]
    left, top = frame["x"], frame["y"]
    return left + xs.min() * scale, top + ys.min() * scale, left + xs.max() * scale, top + ys.max() * scale


def drag(page: Any, box: tuple[float, float, float, float]) -> None:
    page.mouse.move(box[0], box[1])
    page.mouse.down()
    page.mouse.move((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    page.mouse.move(box[2], box[3], steps=3)
    page.mouse.up()


def cards(page: Any, place: str = "#hits") -> list[str]:
    return page.locator(f"{place} .card b").all_text_contents()


def saved(tmp_path: Path, name: str, pixels: np.ndarray) -> Path:
    (tmp_path / name).write_bytes(jpeg(pixels))
    return tmp_path / name


def test_what_is_seen_when_it_is_held_is_what_stays(
    served: Callable[..., str], opened: Callable[..., Any], clip: Path
) -> None:
    page = opened(served(source=str(clip)))
    page.wait_for_selector("#frame:not([hidden])")
    # Pictures take their time from here on, so that one is on its way to the screen whenever it is held.
    page.evaluate("""() => {
        const decoded = window.createImageBitmap;
        window.waiting = window.drawn = 0;
        window.createImageBitmap = async (picture) => {
            window.waiting += 1;
            await new Promise((done) => setTimeout(done, 300));
            window.waiting -= 1;
            window.drawn += 1;
            return decoded(picture);
        };
    }""")
    until(page, "window.waiting === 1")
    seen = page.evaluate("""() => {
        const canvas = document.getElementById("picture");
        const { left, top, width, height } = document.getElementById("frame").getBoundingClientRect();
        const at = { clientX: left + width / 4, clientY: top + height / 4, button: 0, pointerId: 1, bubbles: true };
        document.getElementById("frame").setPointerCapture = () => {};
        canvas.dispatchEvent(new PointerEvent("pointerdown", at));
        window.onTheWay = window.waiting;
        window.drawn = 0;
        return canvas.toDataURL();
    }""")
    assert page.evaluate("window.onTheWay") == 1
    until(page, "window.drawn === 1")
    page.wait_for_timeout(200)
    assert page.locator("#picture").evaluate("c => c.toDataURL()") == seen


def test_from_the_moving_picture_to_an_item_and_back(
    served: Callable[..., str], opened: Callable[..., Any], clip: Path
) -> None:
    page = opened(served(source=str(clip)))
    page.wait_for_selector("#frame:not([hidden])")
    assert page.locator("#state-text").text_content() == "live"
    first = page.locator("#picture").evaluate("c => c.toDataURL()")
    until(page, "old => document.getElementById('picture').toDataURL() !== old", arg=first)
    page.wait_for_selector(".mark.tentative, .mark.confirmed, .mark.unknown", state="attached")
    until(page, "document.getElementById('rates').textContent.includes('frames a second')")
    kept(page, "live")

    page.locator("#hold").click()
    drag(page, square_of(page))
    page.wait_for_selector("#hits .card")
    assert cards(page)[0] == "blue.png"
    assert page.locator("#hits .card.best .mark").count() == 1
    assert page.locator("#frozen").is_visible()
    kept(page, "found")

    page.locator("#label").fill("<b>wanderer</b>")
    page.locator("#enroll").click()
    until(page, "document.getElementById('said').textContent.startsWith('Enrolled: <b>wanderer</b>')")
    until(page, "document.querySelectorAll('#images .card').length === 5")
    page.locator("#search").click()
    until(page, "document.querySelector('#hits .card b').textContent === '<b>wanderer</b>'")
    page.locator("#hold").click()
    until(page, "document.getElementById('frozen').hidden")
    # The look-up that runs names it at once, without a restart.
    page.wait_for_selector("#seen button:has-text('wanderer')")
    kept(page, "enrolled")

    page.locator("#images .card > button").first.click()
    page.locator("#new-label").fill("sailor")
    kept(page, "rename")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#images .card b').textContent === 'sailor'")
    assert cards(page)[0] == "sailor"
    until(page, "document.getElementById('said').textContent === 'It is called sailor now.'")
    page.wait_for_selector("#seen button:has-text('sailor')")

    page.locator("#images .remove").first.click()
    assert "stored" in page.locator("#confirm-text").text_content()
    kept(page, "confirm")
    page.locator("#confirm-no").click()
    assert page.locator("#images .card").count() == 5
    page.locator("#images .remove").first.click()
    page.locator("#confirm-yes").click()
    until(page, "document.querySelectorAll('#images .card').length === 4")
    assert "sailor" not in cards(page, "#images")


def test_only_what_is_drawn_is_sought(served: Callable[..., str], opened: Callable[..., Any], clip: Path) -> None:
    page = opened(served(source=str(clip)))
    page.wait_for_selector("#frame:not([hidden])")
    page.locator("#hold").click()
    drag(page, square_of(page))
    page.locator("#label").fill("the square")
    page.locator("#seek").click()
    until(page, "document.getElementById('seeking-text').textContent.includes('“the square”')")
    page.wait_for_selector("#seen button.confirmed:has-text('the square')")
    until(page, "document.querySelectorAll('#seen button').length === 1")
    kept(page, "sought")
    page.locator("#seek-no-more").click()
    until(page, "document.getElementById('seeking').hidden")
    until(page, "![...document.querySelectorAll('#seen button')].some(b => b.textContent.includes('the square'))")


def test_an_opened_picture_is_searched_whole_and_by_a_box(
    served: Callable[..., str], opened: Callable[..., Any], tmp_path: Path
) -> None:
    page = opened(served())
    until(page, "document.querySelectorAll('#images .card').length === 4")
    assert page.locator("#empty").is_visible()
    assert "without --source" in page.locator("#empty-hint").text_content()
    kept(page, "no-source")
    both = np.concatenate([picture_of("red", (320, 240), 5), picture_of("blue", (320, 240), 6)], axis=1)
    page.locator("#file").set_input_files(saved(tmp_path, "both.png", both))
    page.wait_for_selector("#hits .card")
    around = page.locator("#frame").bounding_box()
    for share, colour in ((0.0, "red.png"), (0.5, "blue.png")):
        left, width = around["x"] + share * around["width"], around["width"] / 2
        page.locator("#place").click() if page.locator("#box").is_visible() else None
        drag(page, (left + 0.25 * width, around["y"] + 60, left + 0.75 * width, around["y"] + around["height"] - 60))
        until(page, "wanted => document.querySelector('#hits .card b')?.textContent === wanted", arg=colour)
    page.locator("#hits .card button").first.click()
    assert page.locator("#large").is_visible()
    kept(page, "large")
    page.keyboard.press("Escape")
    page.locator("#file").set_input_files({"name": "notes.txt", "mimeType": "image/png", "buffer": b"no picture"})
    until(page, "document.getElementById('said').textContent.includes('cannot show notes.txt')")
    page.locator("#file").set_input_files(tmp_path / "both.png")
    until(page, "document.getElementById('said').textContent === ''")


def test_by_keyboard_alone(served: Callable[..., str], opened: Callable[..., Any], tmp_path: Path) -> None:
    page = opened(served())
    until(page, "document.querySelectorAll('#images .card').length === 4")
    page.locator("#file").set_input_files(saved(tmp_path, "green.png", picture_of("green", (400, 300), 7)))
    page.wait_for_selector("#hits .card")
    reached = tab_to(page, "place")
    assert reached
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "box"
    before = page.locator("#box").get_attribute("aria-label")
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    assert page.locator("#box").get_attribute("aria-label") != before
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#hits .card b')?.textContent === 'green.png'")
    kept(page, "keyboard")
    assert tab_to(page, "label")
    page.keyboard.type("leaf")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('said').textContent.startsWith('Enrolled: leaf')")
    until(page, "document.querySelectorAll('#images .card').length === 5")
    assert tab_to(page, "Remove leaf", "document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    assert tab_to(page, "confirm-yes")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#images .card').length === 4")
    assert page.evaluate("document.activeElement.id") == "gallery-title"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "filter"


def tab_to(page: Any, wanted: str, what: str = "document.activeElement.id") -> bool:
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(what) == wanted:
            return True
    return False


def test_on_a_phone(served: Callable[..., str], opened: Callable[..., Any], clip: Path) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    page = opened(served(source=str(clip)), **phone)
    page.wait_for_selector("#frame:not([hidden])")
    until(page, "document.querySelectorAll('#images .card').length === 4")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#frame").bounding_box()["width"] > 320
    small = page.evaluate(
        "[...document.querySelectorAll('main button, main label.button')].filter(b => b.offsetHeight && b.offsetHeight"
        " < 32).map(b => b.outerHTML)"
    )
    assert small == []
    page.locator("#hold").tap()
    left, top, right, bottom = square_of(page)
    touch = page.context.new_cdp_session(page)
    points = [(left, top), ((left + right) / 2, (top + bottom) / 2), (right, bottom)]
    for kind, (x, y) in zip(("touchStart", "touchMove", "touchMove"), points, strict=True):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_selector("#hits .card")
    assert cards(page)[0] == "blue.png"
    kept(page, "phone")


def test_an_empty_gallery_says_what_to_do(
    served: Callable[..., str], opened: Callable[..., Any], gallery: Path
) -> None:
    with Gallery.open(gallery, "rw") as store:
        store.remove([row.id for row in store.images()])
    page = opened(served())
    page.wait_for_selector("#gallery-empty:not([hidden])")
    assert "Nothing is enrolled yet" in page.locator("#gallery-empty").text_content()
    kept(page, "empty")


def test_the_log_in_page(served: Callable[..., str], opened: Callable[..., Any]) -> None:
    page = opened(served(token="a-token-of-some-length"))
    assert page.url.endswith("/login")
    page.locator("#token").fill("a-token-of-some-length")
    kept(page, "login")
    with page.expect_navigation(url="**/"):
        page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#images .card').length === 4")
    assert "token" not in page.url
    page.locator("#logout button").click()
    page.wait_for_url("**/login")


def test_dark(served: Callable[..., str], opened: Callable[..., Any], clip: Path) -> None:
    page = opened(served(source=str(clip)), color_scheme="dark")
    page.wait_for_selector("#frame:not([hidden])")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in ground.strip("rgb()").split(",")) < 60
    kept(page, "dark")
