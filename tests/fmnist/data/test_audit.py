"""The audit of a data set: real photos with known faults planted among them, and its page."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw, ImageFilter, ImageStat
from playwright.sync_api import Browser, Page
from rich.console import Console

from fmnist.data.audit.catalogue import Catalogue
from fmnist.data.audit.collect import collect
from fmnist.data.audit.copies import are_near, likeness
from fmnist.data.audit.features import compute_features
from fmnist.data.audit.findings import AuditReport, Copies, Picture
from fmnist.data.audit.report import audit, summary
from fmnist.data.dataset import Split, load_info
from fmnist.data.idx import write_idx
from fmnist.data.importing.options import ImportOptions
from fmnist.data.importing.origin import import_named
from tests.browser import NARROW, WIDE
from tests.conftest import write_split
from tests.pictures import photo_files

TILE = 130
QUIET = Console(quiet=True)
MARKUP = "<b onerror=x> & \u202e.png"
"""A name that a page must show as it is; it turns the direction of writing."""


def tiles(photo: Path) -> list[Image.Image]:
    """Different pieces of a photo, but for plain sky."""
    picture = Image.open(photo).convert("RGB")
    found: list[Image.Image] = []
    for top in range(0, picture.height - TILE + 1, TILE):
        for left in range(0, picture.width - TILE + 1, TILE):
            tile = picture.crop((left, top, left + TILE, top + TILE))
            if min(ImageStat.Stat(tile).stddev) > 15:
                found.append(tile)
    return found


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def write_photos(folder: Path) -> None:
    """Pieces of a street and of a portrait, in a training and a test split; all are different."""
    for name, photo in (("street", photo_files()[0]), ("portrait", photo_files()[2])):
        for number, tile in enumerate(tiles(photo)):
            split = "test" if number % 4 == 3 else "train"
            path = folder / split / name / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            tile.save(path)


def plant(folder: Path) -> None:
    """Put known faults among the photos."""
    street, portrait = folder / "train/street", folder / "train/portrait"
    tile = Image.open(street / "05.png")
    tile.save(portrait / MARKUP)
    as_jpeg(Image.open(street / "08.png"), 85).save(street / "again.png")
    Image.open(portrait / "08.png").save(folder / "test/portrait/copied.png")
    one_pixel = Image.open(portrait / "09.png")
    one_pixel.putpixel((60, 60), (255, 0, 0))
    one_pixel.save(folder / "test/portrait/pixel.png")
    Image.open(street / "10.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
        street / "mirrored.png"
    )

    Image.new("RGB", (90, 90), "navy").save(street / "navy.png")
    nearly = Image.new("RGB", (90, 90), "white")
    ImageDraw.Draw(nearly).line((40, 40, 46, 40), "black")
    nearly.save(street / "speck.png")
    Image.open(portrait / "10.png").filter(ImageFilter.GaussianBlur(14)).save(
        portrait / "blurred.png"
    )
    Image.open(photo_files()[1]).crop((0, 150, 600, 270)).save(portrait / "long.png")
    Image.open(photo_files()[1]).resize((14, 10)).save(portrait / "small.png")
    Image.eval(Image.open(street / "02.png"), lambda value: value // 6).save(street / "dark.png")


@dataclass(frozen=True)
class Audited:
    report: AuditReport
    out: Path

    @property
    def json(self) -> dict[str, Any]:
        return json.loads((self.out / "audit.json").read_text())

    def odd(self, kind: str) -> list[str | None]:
        found = [oddity for oddity in self.report.oddities if oddity.kind == kind]
        return [Path(str(oddity.picture.file)).name for oddity in found]


def audit_folder(folder: Path, place: Path) -> Audited:
    options = ImportOptions(height=64, width=64)
    imported = import_named(str(folder), options, place / "cache")
    report = audit(imported, load_info(imported), place / "out", console=QUIET)
    return Audited(report, place / "out")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    place = tmp_path_factory.mktemp("planted")
    write_photos(place / "photos")
    plant(place / "photos")
    return audit_folder(place / "photos", place)


def file_sets(copies: tuple[Copies, ...]) -> list[set[str]]:
    def names(one: Copies) -> set[str]:
        return {Path(str(picture.file)).name for picture in one.pictures}

    return [names(one) for one in copies]


def test_a_clean_set_has_nothing_found(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")
    clean = audit_folder(tmp_path / "photos", tmp_path)
    assert clean.report.clean, summary(clean.report)
    assert summary(clean.report)[1:] == ["nothing found"]
    assert "Nothing found" in (clean.out / "audit.html").read_text()


def test_exact_copies_are_found_under_other_labels_and_across_splits(planted: Audited) -> None:
    exact = planted.report.exact
    assert file_sets(exact) == [{"05.png", MARKUP}, {"08.png", "copied.png"}]
    conflicting, across = exact
    assert set(conflicting.labels) == {"street", "portrait"}
    assert across.splits == ["train", "test"]
    assert across.labels == ["portrait"]


def test_near_copies_are_found_and_a_mirrored_image_is_none(planted: Audited) -> None:
    near = file_sets(planted.report.near)
    # The dark one is a street with a sixth of its contrast.
    assert sorted(map(sorted, near)) == [
        ["02.png", "dark.png"],
        ["08.png", "again.png"],
        ["09.png", "pixel.png"],
    ]


def test_copies_of_training_images_in_the_test_set_are_counted(planted: Audited) -> None:
    exact, either = planted.report.leaks
    assert (exact.split, exact.copies, exact.images, exact.labels_differ) == ("test", "exact", 1, 0)
    assert (either.copies, either.images) == ("exact or near", 2)
    assert exact.of == either.of == sum(count.test for count in planted.report.counts)


def test_a_leak_under_another_label_is_counted(tmp_path: Path, train: Split) -> None:
    images = train.images[:40]
    labels = torch.arange(40) % 2
    write_split(tmp_path, "train", Split(images, labels))
    # The first ten again, the first four of them under the other label.
    again = labels[:10].clone()
    again[:4] = 1 - again[:4]
    write_split(tmp_path, "t10k", Split(images[:10], again))
    report = collect(Catalogue(tmp_path, load_info(tmp_path)), "mine", QUIET)
    exact = report.leaks[0]
    assert (exact.images, exact.of, exact.labels_differ) == (10, 10, 4)
    assert len(report.exact) == 10


def test_images_that_stand_out_are_named(planted: Audited) -> None:
    assert planted.odd("one colour") == ["navy.png"]
    assert planted.odd("nearly blank") == ["speck.png"]
    assert planted.odd("blurred") == ["blurred.png", "small.png"]
    assert planted.odd("dark") == ["dark.png"]
    assert planted.odd("bright") == []
    assert planted.odd("elongated") == ["long.png"]
    assert planted.odd("small original") == ["small.png"]


def test_examples_of_a_group_have_every_split_and_label() -> None:
    pictures = [Picture(number, "train", number, "coat", None) for number in range(20)]
    pictures += [Picture(20, "test", 0, "coat", None), Picture(21, "test", 1, "shirt", None)]
    examples = Copies(tuple(pictures), 1.0).examples(4)
    assert [picture.number for picture in examples] == [0, 1, 20, 21]


def test_what_many_images_have_is_usual(tmp_path: Path, train: Split) -> None:
    images = train.images[:300].clone()
    images[:40] //= 5
    write_split(tmp_path, "train", Split(images, torch.arange(300) % 3))
    write_split(tmp_path, "t10k", Split(train.images[300:330], torch.arange(30) % 3))
    report = collect(Catalogue(tmp_path, load_info(tmp_path)), "mine", QUIET)
    assert report.usual == ("dark: 12% of the images, so that it is usual here",)
    assert not report.oddities


def test_the_json_names_files_splits_and_labels(planted: Audited) -> None:
    conflicting = planted.json["exact_copies"][0]
    assert conflicting["labels_differ"]
    assert not conflicting["across_splits"]
    images = {Path(image["file"]).name: image for image in conflicting["images"]}
    assert images[MARKUP]["label"] == "portrait"
    assert images["05.png"] | {"row": 0} == {
        "split": "train",
        "row": 0,
        "file": "train/street/05.png",
        "label": "street",
    }
    names = [oddity["kind"] for oddity in planted.json["oddities"]]
    assert names[:2] == ["one colour", "nearly blank"]
    assert planted.json["suspected_labels"] is None


def test_a_set_without_files_has_numbers(tmp_path: Path, train: Split) -> None:
    images = train.images[:30].clone()
    images[20] = images[7]
    for prefix in ("train", "t10k"):
        rows = images if prefix == "train" else images[:1] + 1
        write_split(tmp_path, prefix, Split(rows, torch.arange(len(rows)) % 3))
    report = collect(Catalogue(tmp_path, load_info(tmp_path)), "mine", QUIET)
    pictures = report.exact[0].pictures
    assert [(picture.split, picture.row, picture.file) for picture in pictures] == [
        ("train", 7, None),
        ("train", 20, None),
    ]
    assert pictures[0].name == "train 7"


def test_a_film_is_one_group_at_bounded_cost(tmp_path: Path, train: Split) -> None:
    """1,500 frames that differ in a few pixels: not every pair of them is compared."""
    frames = train.images[:1].repeat(1500, 1, 1)
    for number in range(1500):
        frames[number].view(-1)[number % 700] ^= 3
        frames[number].view(-1)[number // 2] ^= 2
    write_split(tmp_path, "train", Split(frames, torch.arange(1500) % 2))
    write_split(tmp_path, "t10k", Split(train.images[100:110], torch.arange(10) % 2))
    report = collect(Catalogue(tmp_path, load_info(tmp_path)), "film", QUIET)
    (film,) = report.near
    assert len(film.pictures) == 1500
    assert len(np.unique(report.groups)) == 11


@pytest.mark.parametrize("quality", [90, 75])
def test_re_encoded_garments_are_near_copies_and_others_are_not(quality: int, train: Split) -> None:
    garments = train.images[:400]
    encoded = [as_jpeg(Image.fromarray(garment), quality) for garment in garments.numpy()]
    again = torch.from_numpy(np.stack([np.asarray(picture) for picture in encoded]))

    def alike(first: torch.Tensor, second: torch.Tensor) -> float:
        correlation, difference = likeness(first, second)
        return float(are_near(correlation, difference).mean())

    assert alike(garments, again) >= (0.99 if quality == 90 else 0.9)
    assert alike(garments, garments.flip(2)) <= 0.01
    assert alike(garments, garments.roll(1, 0)) == 0


def test_a_single_changed_pixel_leaves_a_near_copy(train: Split) -> None:
    garments = train.images[:200]
    changed = garments.clone()
    changed[:, 14, 14] ^= 128
    assert are_near(*likeness(garments, changed)).mean() > 0.95
    # A patch of that size is another print on the shirt.
    changed[:, 12:16, 12:16] ^= 128
    assert are_near(*likeness(garments, changed)).mean() == 0


def test_likeness_ignores_brightness_and_contrast(train: Split) -> None:
    garments = train.images[:50]
    darker = garments // 2 + 40
    correlation, difference = likeness(garments, darker)
    assert correlation.min() > 0.999
    assert difference.max() < 0.02


def test_features_do_not_depend_on_the_batch(train: Split) -> None:
    images = train.images[:60]
    together = compute_features([images])
    apart = compute_features(images.split(7))
    assert (together.digests == apart.digests).all()
    assert (together.hashes == apart.hashes).mean() > 0.95
    assert np.allclose(together.sharpness, apart.sharpness, rtol=1e-4)
    assert (together.light_end == apart.light_end).all()


def test_tones_are_those_of_the_pixels() -> None:
    image = torch.full((1, 20, 20), 100, dtype=torch.uint8)
    image.view(-1)[:8] = 110  # 2 of 100, which is not visible
    image.view(-1)[8:12] = 200  # 1 of 100
    features = compute_features([image])
    assert features.visible[0] == pytest.approx(0.01)
    assert (features.dark_end[0], features.light_end[0]) == (100, 110)
    assert features.value_range[0] == 100


def test_classes_without_test_images_are_told(tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    pixels = source.integers(0, 256, (60, 16, 16), np.uint8)
    for prefix, labels in (("train", np.arange(60) % 3), ("t10k", np.zeros(60))):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", pixels + (prefix == "t10k"))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", labels.astype(np.uint8))
    report = collect(Catalogue(tmp_path, load_info(tmp_path)), "mine", QUIET)
    (words,) = report.imbalance
    assert words.startswith("2 of 3 classes have no test image, 1 for one")


@pytest.fixture
def page(browser: Browser, planted: Audited) -> Iterator[Page]:
    """The page as it opens without a network."""
    context = browser.new_context(offline=True, viewport={"width": WIDE, "height": 900})
    page = context.new_page()
    page.goto((planted.out / "audit.html").as_uri())
    yield page
    context.close()


def test_the_page_shows_every_picture_without_a_network(page: Page) -> None:
    shown = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(shown) == 17
    assert set(shown) == {64}
    markup = page.locator("#exact figcaption", has_text="onerror")
    # What turns the direction of writing is shown as an escape.
    assert "<b onerror=x> & \\u202e.png" in markup.inner_text()
    assert page.locator("#exact b.warn").count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_and_fits(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    assert Axe().run(page).violations_count == 0
    page.set_viewport_size({"width": NARROW, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
