"""The demo in a real browser, from a plain static server: the same answers as Python's, for
everybody, and no request elsewhere."""

import base64
import io
import json
import re
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from benchmarks.photos import render
from export.client import Client
from export.demo.runtime import RUNTIME, runtime_files
from export.demo.site import ASSETS, write_demo
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split
from fmnist.data.info import DataInfo
from fmnist.data.picture import PAD_COLOURS, Fit, to_pixels
from fmnist.models import build_model
from fmnist.training.checkpoint import Checkpoint
from tests.browser import NARROW, WIDE
from tests.conftest import Outcome
from tests.pictures import real_pictures, seen_through


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def bundle(
    lenet: Checkpoint, make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return make_bundle(tmp_path_factory.mktemp("demo") / "export", lenet).parent


@contextmanager
def served(bundle: Path) -> Generator[str]:
    """Write the demo of a bundle beside it, and serve it; gives its address."""
    folder = bundle.parent / "web"
    write_demo(bundle, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def site(bundle: Path) -> Iterator[str]:
    with served(bundle) as address:
        yield address


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Callable[..., Page]]:
    """Opens the demo, and in the end looks whether it complained or asked anybody else."""
    pages: list[tuple[Page, list[str], list[str]]] = []

    def visit(width: int = WIDE, scheme: Any = "light") -> Page:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        complaints: list[str] = []
        requests: list[str] = []
        pages.append((page, complaints, requests))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(site)
        expect(page.locator("#state")).to_have_text("")
        return page

    yield visit
    for page, complaints, requests in pages:
        assert complaints == []
        assert [url for url in requests if not url.startswith((site, "data:", "blob:"))] == []
        page.close()


def probabilities(page: Page, pixels: np.ndarray) -> list[float]:
    return page.evaluate(
        "async (pixels) => (await demo.predict(Uint8Array.from(pixels))).probabilities",
        pixels.flatten().tolist(),
    )


def test_golden_samples_get_pythons_answers(visit: Callable[..., Page], bundle: Path) -> None:
    page = visit()
    client = Client(bundle)
    with np.load(bundle / "golden.npz") as golden:
        pixels = golden["pixels"]
    expected = client.probabilities(pixels)
    for number, image in enumerate(pixels):
        answer = np.array(probabilities(page, image))
        assert np.abs(answer - expected[number]).max() < 1e-3

    # By keyboard, through the picture file.
    for number in (0, 7, 19):
        sample = page.locator(f"[data-sample='{number}']")
        sample.focus()
        page.keyboard.press("Enter")
        label, probability = client.likeliest(expected[number], 1)[0]
        expect(page.locator("#answer")).to_have_text(f"{label}, {100 * probability:.1f} %")
        assert page.locator("#bars li").count() == 10
        assert page.inner_text("#time").endswith("ms in the model")


def browser_pixels(page: Page, picture: Image.Image, fit: Fit, photo: bool) -> np.ndarray:
    """A picture as the browser fits it, (H, W) or (3, H, W)."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    address = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    described = {"how": fit.how, "padColour": fit.pad_colour}
    sizes = {"height": fit.height, "width": fit.width, "channels": fit.channels}
    pixels = page.evaluate(
        """async ([address, fit, photo]) => {
            const blob = await (await fetch(address)).blob();
            const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
            const bitmap = await createImageBitmap(blob, options);
            const picture = demo.pixelsOf(bitmap, bitmap.width, bitmap.height);
            return Array.from(demo.toPixels(picture, fit, photo));
        }""",
        [address, sizes | described, photo],
    )
    shape = (fit.height, fit.width) if fit.channels == 1 else (3, fit.height, fit.width)
    return np.array(pixels, np.uint8).reshape(shape)


@pytest.mark.parametrize("how", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("pad_colour", PAD_COLOURS)
def test_pictures_are_fitted_as_in_python(
    visit: Callable[..., Page], how: str, pad_colour: str
) -> None:
    page = visit()
    for picture in (*real_pictures(), seen_through()):
        for height, width, channels in ((28, 28, 1), (32, 48, 3), (40, 20, 3)):
            fit = Fit(height, width, channels, how, pad_colour)
            there = to_pixels(picture, fit).astype(int)
            here = browser_pixels(page, picture, fit, photo=False).astype(int)
            differences = np.abs(here - there)
            # Pillow shrinks across first or down first, whichever is less work, and rounds between.
            assert differences.max() <= 5
            assert differences.mean() < 0.3


def test_photos_are_prepared_as_in_python(
    visit: Callable[..., Page], bundle: Path, official_test: Split, tmp_path: Path
) -> None:
    page = visit()
    client = Client(bundle)
    source = np.random.default_rng(0)
    photos = [render(image.numpy(), source) for image in official_test.images[:20]]
    same = 0
    for photo in photos:
        there = client.pixels(photo, photo=True)
        here = browser_pixels(page, photo, client.fit, photo=True)
        assert np.abs(here.astype(int) - there.astype(int)).mean() < 3
        expected = client.probabilities(there[None])[0].argmax()
        same += int(np.argmax(probabilities(page, here)) == expected)
    assert same >= 19

    photos[-1].save(tmp_path / "photo.png")
    page.set_input_files("#file", tmp_path / "photo.png")
    expect(page.locator("#answer")).not_to_have_text("")
    assert page.inner_text("#answer").split(",")[0] == client.top(photos[-1], 1)[0][0]

    (tmp_path / "no.png").write_text("no picture")
    page.set_input_files("#file", tmp_path / "no.png")
    expect(page.locator("#state")).to_contain_text("not a picture")
    Image.new("RGB", (100, 100), "white").save(tmp_path / "blank.png")
    page.set_input_files("#file", tmp_path / "blank.png")
    expect(page.locator("#state")).to_contain_text("nothing to be seen")


def test_a_model_of_rectangles_in_colour(
    browser: Browser, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    info = DataInfo(
        name="photos",
        classes=("street", "flower", "portrait"),
        sha256={},
        channels=3,
        image_size=(32, 48),
        fit="crop",
        pad_colour="edge",
        pixel_range=(0, 4095),
    )
    torch.manual_seed(0)
    config = TrainConfig(model="lenet")
    model = build_model(config, info.problem).eval()
    member = Checkpoint(model, config, info, {"versions": {}})
    bundle = make_bundle(tmp_path / "export", member).parent
    client = Client(bundle)

    with served(bundle) as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.locator("#state")).to_have_text("")
        expect(page.locator("#about")).to_contain_text("more than 8 bits a channel are for client")
        assert page.locator("#photo").is_hidden()
        for number, picture in enumerate(real_pictures()):
            # A name of its own, or the browser would see no change.
            picture.save(tmp_path / f"{number}.png")
            page.set_input_files("#file", tmp_path / f"{number}.png")
            label, probability = client.top(picture, 1)[0]
            near = [f"{100 * probability + tenths / 10:.1f}" for tenths in range(-4, 5)]
            answer = re.compile(rf"^{label}, ({'|'.join(near)}) %$")
            expect(page.locator("#answer")).to_have_text(answer)

        seen = page.locator("#seen")
        assert (seen.get_attribute("width"), seen.get_attribute("height")) == ("48", "32")
        box = seen.bounding_box()
        assert box
        assert box["width"] / box["height"] == pytest.approx(1.5, abs=0.02)
        page.close()


def test_drawing_dropping_and_filming(visit: Callable[..., Page], official_test: Split) -> None:
    page = visit()
    canvas = page.locator("#draw")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + 80, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 80, steps=5)
    page.mouse.move(box["x"] + 200, box["y"] + 200, steps=5)
    page.mouse.up()
    expect(page.locator("#answer")).not_to_have_text("")
    drawn = page.inner_text("#answer")

    page.evaluate(
        """async () => {
            const blob = await (await fetch('samples/00.png')).blob();
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([blob], 'a.png', {type: 'image/png'}));
            const drop = new DragEvent('drop', {dataTransfer, cancelable: true});
            document.getElementById('drop').dispatchEvent(drop);
        }"""
    )
    expect(page.locator("#answer")).not_to_have_text(drawn)
    dropped = page.inner_text("#answer")

    # The camera is Chromium's fake one.
    film = page.get_by_role("button", name="Start the camera")
    film.click()
    expect(page.locator("#answer")).not_to_have_text(dropped)
    page.get_by_role("button", name="Stop the camera").click()
    film = page.get_by_role("button", name="Start the camera")
    assert film.get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(visit: Callable[..., Page], width: int, scheme: str) -> None:
    page = visit(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("[data-sample='3']").click()
    expect(page.locator("#answer")).not_to_have_text("")

    violations = Axe().run(page).response["violations"]
    grave = [one for one in violations if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"]) for one in grave] == []


def test_the_command_and_what_it_refuses(
    bundle: Path, tmp_path: Path, call: Callable[..., Outcome]
) -> None:
    out = tmp_path / "site"
    done = call("export.web", bundle, "--out", out)
    assert done.code == 0, done.output
    assert f"python -m http.server --directory {out}" in done.output
    config = json.loads((out / "config.json").read_text())
    assert len(config["samples"]) == 20
    names = {path.name for path in out.iterdir()}
    assert names == {*RUNTIME, *ASSETS, "model.onnx", "config.json", "samples"}
    assert set(runtime_files()) == set(RUNTIME)

    copy = tmp_path / "copy"
    copy.mkdir()
    for path in bundle.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "client.py").write_text("changed")
    done = call("export.web", copy)
    assert (done.code, "files: client.py was changed" in done.output) == (2, True)
    assert not (tmp_path / "web").exists()
