"""report.html: its numbers are those of the run's files, nothing from them can break it, and a real browser shows it."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from fmnist.config import TrainConfig
from fmnist.data import CLASSES
from fmnist.errors import InputError
from fmnist.run import read_json, write_json
from tests.browser import NARROW, WIDE
from tests.conftest import Outcome
from tests.tune.scripted import HOSTILE, read_npz, search_records, write_best, write_export, write_search
from tune.page.figures import axes, best_so_far, cost, importance, legs, probabilities, roc
from tune.page.markup import embed, text
from tune.report import read_run, write_report
from tune.state import TrialRecord, winner

MEGABYTE = 1_000_000


class Reader(HTMLParser):
    """What a page says: its text, the rows of its tables by their caption, and the data in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.scripts, self.tables = "", [""], dict[str, list[list[str]]]()
        self.rows: list[list[str]] = []
        self.inside: list[str] = []
        self.feed(page)
        self.data: dict[str, Any] = json.loads(self.scripts[1])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "img"):
            self.inside.append(tag)
        if tag == "script":
            self.scripts.append("")
        elif tag == "caption":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass  # <rect/>

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if "script" in self.inside or "style" in self.inside:
            self.scripts[-1] += data
        elif "caption" in self.inside:
            self.tables[data] = self.rows
        elif "td" in self.inside or "th" in self.inside:
            self.rows[-1][-1] += data
        else:
            self.text += data


def read_page(run: Path) -> Reader:
    return Reader(write_report(run).read_text())


def record(number: int, curve: list[float], outcome: str = "finished", **values: Any) -> TrialRecord:
    config = TrainConfig(epochs=3, lr=values.pop("lr", 0.1), widths=values.pop("widths", ()))
    return TrialRecord(number, config, curve, outcome=outcome, **values)


# The figures.


def test_what_each_rung_cost() -> None:
    records = [
        record(0, [0.5, 0.6, 0.7], seconds=6.0),
        record(1, [0.4], "stopped at rung 1", seconds=1.0),
        record(2, [0.3, 0.5], "diverged: x", seconds=3.0),
        record(3, [], "error: x"),
    ]
    first, second = legs(records, [1], 3)
    assert (first.start, first.end, first.came, first.epochs, first.seconds, first.best) == (0, 1, 3, 3, 4.5, 0.5)
    assert (second.start, second.end, second.came, second.epochs, second.seconds, second.best) == (1, 3, 2, 3, 5.5, 0.7)
    spent = cost(records)
    assert (spent.epochs, spent.seconds, spent.full_epochs, spent.full_seconds) == (6, 10.0, 9, 6.0 + 3.0 + 4.5)
    assert cost(records[3:]).full_epochs == 0
    assert [leg.best for leg in legs(records[3:], [1], 3)] == [None, None]


def test_best_so_far_goes_by_time_and_up() -> None:
    records = [
        record(0, [0.5, 0.6, 0.9], times=[2.0, 4.0, 6.0]),
        record(1, [0.55, 0.58], "stopped at rung 2", times=[1.0, 5.0]),
        record(2, [0.99], "diverged: x", times=[0.5]),
        record(3, [0.95]),  # of a time when records had no times
    ]
    assert [(s.seconds, s.accuracy, s.number, s.epoch) for s in best_so_far(records)] == [
        (1.0, 0.55, 1, 1),
        (4.0, 0.6, 0, 2),
        (6.0, 0.9, 0, 3),
    ]


def test_axes_follow_the_space() -> None:
    records = [record(0, [0.5], lr=0.3, widths=(64,)), record(1, [0.5], lr=0.01), record(2, [0.5], lr=0.02, widths=(16, 32))]
    space = {"model": ["airnet"], "lr": {"by": "model", "airnet": {"low": 0.01, "high": 0.3}}, "widths": [[], [64], [16, 32]]}
    lr, widths = axes(space, records)
    assert (lr.field, lr.labels, lr.log, lr.values) == ("lr", (), True, (0.3, 0.01, 0.02))
    assert (widths.labels, widths.values) == (("default", "64", "16-32"), (1.0, 0.0, 2.0))
    alone = axes(None, records)
    assert [(axis.field, axis.labels) for axis in alone] == [("widths", widths.labels), ("lr", ("0.01", "0.02", "0.3"))]


def test_importance_finds_the_parameter_that_matters() -> None:
    records = [record(n, [0.5 + 0.01 * (n % 2), 0.1], lr=0.01 * (n + 1), widths=(16 + 16 * (n % 2),)) for n in range(30)]
    parameters = axes({"lr": {"low": 0.01, "high": 1.0}, "widths": [[16], [32]]}, records)
    found = importance(records, parameters, 1)
    assert found is not None
    assert (found.epoch, found.trials) == (1, 30)
    assert found.rows[0][0] == "widths"
    assert found.rows[0][1] > 10 * abs(found.rows[1][1])
    assert found.explained > 0.5
    assert found == importance(records, parameters, 1)
    assert importance(records[:9], parameters, 1) is None
    assert importance([record(n, []) for n in range(30)], parameters, 1) is None


def test_roc_of_a_class_that_does_not_occur_is_empty(tmp_path: Path) -> None:
    kept = read_npz(write_best(tmp_path / "r") / "best/test_predictions.npz")
    labels = kept["labels"].copy()
    labels[labels == 2] = 1
    curves = roc(labels, kept["logits"].astype(float))
    assert curves[2] == []
    assert curves[0][0] == (0.0, 0.0)
    assert curves[0][-1] == (1.0, 1.0)
    assert all(len(curve) <= 160 for curve in curves)


def test_what_is_kept_of_the_test_set_is_small_and_sorted(tmp_path: Path) -> None:
    path = write_best(tmp_path / "r", classes=10, images=10_000) / "best/test_predictions.npz"
    kept = read_npz(path)
    assert path.stat().st_size < MEGABYTE // 2
    assert (kept["logits"].dtype.name, kept["labels"].dtype.name, kept["images"].dtype.name) == ("float32", "uint8", "uint8")
    assert kept["images"].shape == (24, 28, 28)
    assert (kept["logits"][kept["mistakes"]].argmax(1) != kept["labels"][kept["mistakes"]]).all()
    sure = probabilities(kept["logits"])[kept["mistakes"]].max(1)
    assert (sure[:-1] >= sure[1:]).all()


# The page.


def test_the_page_shows_the_numbers_of_the_files(tmp_path: Path) -> None:
    run = write_export(write_best(write_search(tmp_path / "r", search_records(20, 9))))
    page = read_page(run)
    records = read_run(run).records
    best = winner(records)
    assert best is not None
    test = read_json(run / "best/metrics.json")["test"]
    for words in (
        f"{best.accuracy:.2%}",
        f"{test['accuracy']:.2%}",
        "The search took 2.2 min",
        "c8814d5c8814",
        "2,345 MB",
        "torch 2.15.0",
    ):
        assert words in page.text
    spent, full = sum(len(one.curve) for one in records), 9 * 19  # one of the 20 had no epoch
    assert f"Together they trained {spent} epochs, {spent / full:.0%} of the {full} that all in full would take" in page.text

    rows = {int(row[0]): row for row in page.tables["All trials"][1:]}
    for one in records:
        assert rows[one.number][1] == (f"{one.accuracy:.2%}" if one.curve else "–")
        assert rows[one.number][2] == str(len(one.curve))
        assert rows[one.number][3] == one.outcome
        assert f"{one.config.lr:g}" in rows[one.number]
    drawn = {trial["n"]: trial for trial in page.data["trials"]}
    assert {number: trial["curve"] for number, trial in drawn.items()} == {one.number: one.curve for one in records}
    assert {number: trial["outcome"] for number, trial in drawn.items()} == {one.number: one.outcome for one in records}
    assert page.data["winner"] == best.number

    scores = page.tables["Scores of each class on the test images"]
    for place, row in enumerate(scores[1:-1]):
        shown = [f"{test[score]['per_class'][place]:.2%}" for score in ("precision", "recall", "f1")]
        assert row == [HOSTILE[place], *shown, f"{test['auroc']['per_class'][place]:.4f}", str(test["support"][place])]
    confusion = page.tables["Test images of each true class (row) by the class predicted (column)"]
    assert [[int(cell.replace("·", "0")) for cell in row[1:]] for row in confusion[1:]] == test["confusion"]
    latency = page.tables["Latency on cpu; × is how much faster than PyTorch"]
    assert latency[1] == ["ONNX Runtime", "1", "1", "281", "309", "366", "3,555", "4.33×"]
    assert "3.8e-06" in page.text
    costs = page.tables["Epochs and seconds from rung to rung"]
    assert [row[0] for row in costs[1:]] == ["1", "2 to 3", "4 to 9", "all", "in full"]
    assert sum(int(row[2]) for row in costs[1:4]) == int(costs[4][2]) == sum(len(one.curve) for one in records)


def test_nothing_from_the_files_becomes_markup(tmp_path: Path) -> None:
    run = write_export(write_best(write_search(tmp_path / "<r>&", search_records(12, 3))))
    page = write_report(run).read_text()
    for name in (*HOSTILE[:2], "<others>", "<after epoch 1>", "<r>&"):
        assert name not in page
        assert text(name) in page
    assert len(re.findall("<script", page)) == len(re.findall("</script>", page)) == 2
    assert Reader(page).data["classes"] == list(HOSTILE)
    assert json.loads(embed({"a": "</script><!--"})) == {"a": "</script><!--"}
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)


def test_what_is_not_there_yet_is_left_out_and_said(tmp_path: Path) -> None:
    records = search_records(6, 3)
    for one in records:
        one.times = []
    run = write_search(tmp_path / "r", records)
    page = read_page(run)
    for words in (
        "It is not retrained yet: python -m tune.search --name r --resume",
        "have no times",
        "at least 10 trials",
        "python -m export.to_onnx r",
        "python -m export.benchmark r",
        "python -m tune.report r",
    ):
        assert words in page.text
    assert "Scores of each class on the test images" not in page.tables
    write_best(run)
    (run / "best/test_predictions.npz").unlink()
    page = read_page(run)
    assert "ROC curves and mistakes need best/test_predictions.npz" in page.text
    assert "Scores of each class on the test images" in page.tables
    assert page.data["roc"] == []


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([record(0, [], "error: x")], "No trial gave a result."),
        ([record(0, [0.5], "diverged: x"), record(1, [], "error: x")], "No trial gave a result."),
        ([record(0, [0.5, 0.6, 0.7])], "All trials had the same parameters."),
        ([record(n, [0.5], "out of time", lr=0.1 * (n + 1)) for n in range(12)], "This needs at least 10 trials that differ"),
    ],
)
def test_poor_searches_have_a_page(tmp_path: Path, records: list[TrialRecord], words: str) -> None:
    assert words in read_page(write_search(tmp_path / "r", records)).text


def test_a_run_that_says_nothing_of_its_search_has_a_page(tmp_path: Path) -> None:
    run = write_search(tmp_path / "r", search_records(12, 3))
    (run / "summary.json").unlink()
    write_json(run / "config.json", {})
    page = read_page(run)
    assert page.data["rungs"] == []
    assert {"model", "optimizer", "learning rate"} <= {axis["name"] for axis in page.data["axes"]}


def test_the_command(call: Callable[..., Outcome], tmp_path: Path) -> None:
    run = write_search(tmp_path / "runs/r", search_records(4, 3))
    done = call("tune.report")
    assert (done.code, done.output) == (0, "saved in runs/r/report.html\n")
    assert (run / "report.html").exists()
    (run / "best").mkdir()
    (run / "best/test_predictions.npz").write_bytes(b"PK\x03\x04 cut short")
    done = call("tune.report", "r")
    assert done.code == 2
    assert done.output.startswith("error: runs/r/best/test_predictions.npz is damaged: ")
    (run / "search/trials.jsonl").unlink()
    done = call("tune.report", "r")
    assert done.code == 2
    assert done.output == "error: run='runs/r': runs/r/search/trials.jsonl has no trial that is done; name the run of a search\n"
    with pytest.raises(InputError):
        read_run(run)


# In a browser.


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_report(write_export(write_best(write_search(folder / "r", search_records(20, 9)))))


@dataclass
class Opened:
    """A page in the browser, and what it did."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def shown(self) -> list[int]:
        """Numbers of the trials in the table, in their order."""
        return self.page.eval_on_selector_all("tr[data-n]:not([hidden])", "rows => rows.map(row => Number(row.dataset.n))")


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Opens a file, and in the end looks whether it complained or asked for anything."""
    opened: list[Opened] = []

    def visit(path: Path, width: int = WIDE, scheme: Any = "light") -> Opened:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        one = Opened(page)
        opened.append(one)
        page.on("console", lambda message: one.complaints.append(message.text))
        page.on("pageerror", lambda error: one.complaints.append(str(error)))
        page.on("request", lambda request: one.requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("#fan-plot svg")
        return one

    yield visit
    for one in opened:
        assert one.complaints == []
        assert [url for url in one.requests if not url.startswith(("file:", "data:"))] == []
        one.page.close()


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(visit: Callable[..., Opened], report: Path, width: int, scheme: str) -> None:
    page = visit(report, width, scheme).page
    assert page.title() == "r: search report"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg").count() >= 6
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []


def test_an_axis_filters_all(visit: Callable[..., Opened], report: Path) -> None:
    opened = visit(report)
    page, everyone = opened.page, opened.shown()
    slider = page.get_by_role("slider", name="optimizer, lowest kept")
    slider.press("ArrowRight")
    page.wait_for_selector("#all")
    nesterov = [trial["n"] for trial in Reader(report.read_text()).data["trials"] if "nesterov" in trial["about"]]
    assert sorted(opened.shown()) == sorted(nesterov)
    assert 0 < len(nesterov) < len(everyone)
    assert slider.get_attribute("aria-valuetext") == "nesterov"
    assert page.inner_text("#shown") == f"{len(nesterov)} of 20 trials kept: optimizer nesterov"
    assert f"{len(nesterov)} of 20 trials" in page.inner_text("#listed")
    lines = page.locator("#parallel-plot .line:not(.out)")
    assert lines.count() == len(nesterov)
    page.keyboard.press("Escape")
    page.wait_for_selector("#all", state="hidden")
    assert opened.shown() == everyone

    strip = page.locator("#parallel-plot .catch").last  # validation accuracy
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.7 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.99 * box["width"], middle, steps=4)
    page.mouse.up()
    page.wait_for_selector("#all")
    best = opened.shown()
    assert best == everyone[: len(best)]  # the table is sorted by accuracy
    assert 0 < len(best) < len(everyone)
    page.click("#all")
    page.wait_for_selector("#all", state="hidden")
    assert opened.shown() == everyone


def test_pointer_and_keys_choose_a_trial_everywhere(visit: Callable[..., Opened], report: Path) -> None:
    page = visit(report).page
    data = Reader(report.read_text()).data
    ranked = sorted((t for t in data["trials"] if t["accuracy"] is not None), key=lambda trial: -trial["accuracy"])
    for name in ("Chart: validation accuracy by epoch", "Chart: 9 parameters"):
        chart = page.get_by_role("group", name=re.compile(name))
        chart.focus()
        said = chart.locator("xpath=..").locator(".said")
        hint = said.inner_text()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        second = ranked[1]
        assert said.inner_text().startswith(f"Trial {second['n']}: {second['accuracy']:.2%} after {len(second['curve'])} epoch")
        assert second["outcome"] in said.inner_text()
        assert page.locator("#fan-plot .chosen").count() == page.locator("#parallel-plot .chosen").count() == 1
        assert page.locator("tr.pointed").get_attribute("data-n") == str(second["n"])
        page.keyboard.press("Escape")
        assert said.inner_text() == hint
        assert page.locator(".chosen").count() == 0
    dot = page.locator("#time-plot .dot").first
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.locator("#time-plot .ring").count() == 1
    assert page.locator("figure:has(#time-plot) .said").inner_text().startswith("Trial ")


def test_tab_reaches_every_chart_and_box(visit: Callable[..., Opened], report: Path) -> None:
    page = visit(report, NARROW).page
    wanted = page.eval_on_selector_all("[tabindex='0'], a, button:not([hidden]), summary", "all => all.length")
    reached: set[str] = set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label') || ''"))
    assert {"fan-plot", "time-plot", "parallel-plot", "roc-plot", "All trials", "learning rate, highest kept"} <= reached


def test_heads_sort_the_table(visit: Callable[..., Opened], report: Path) -> None:
    opened = visit(report)
    page = opened.page
    head = page.get_by_role("columnheader", name="learning rate")
    rates = {trial["n"]: trial["at"][4] for trial in Reader(report.read_text()).data["trials"]}
    for direction, sign in (("descending", -1), ("ascending", 1)):
        head.get_by_role("button").press("Enter")
        assert head.get_attribute("aria-sort") == direction
        found = [rates[number] for number in opened.shown()]
        assert found == sorted(found, key=lambda rate: sign * rate)
    page.get_by_role("columnheader", name="validation").get_by_role("button").click()
    assert opened.shown()[-1] == 2  # it has no accuracy
    assert head.get_attribute("aria-sort") is None
    page.get_by_role("columnheader", name="recall").get_by_role("button").click()
    assert page.locator("table:has(tr[data-class]) tbody tr").last.inner_text().startswith("macro mean")


def test_classes_of_the_roc_are_told(visit: Callable[..., Opened], report: Path) -> None:
    page = visit(report).page
    page.locator("#roc-plot").focus()
    page.keyboard.press("Home")
    auroc = Reader(report.read_text()).data["auroc"]
    lowest = min(range(len(auroc)), key=lambda place: auroc[place])
    assert page.locator("figure:has(#roc-plot) .said").inner_text().startswith(f"{HOSTILE[lowest]}: AUROC {auroc[lowest]:.4f}")
    assert page.locator("#roc-plot .chosen").count() == 2


def test_a_thousand_trials_open_whole(visit: Callable[..., Opened], tmp_path: Path) -> None:
    records = search_records(1000, 27)
    for one in records:  # the most that there can be: every trial in full
        one.curve += [round(one.curve[-1] + 0.001 * k, 4) for k in range(27 - len(one.curve))] if one.curve else []
        one.times = [round(one.number + 2.1 * k, 2) for k in range(len(one.curve))]
    path = write_report(write_best(write_search(tmp_path / "r", records, CLASSES), classes=len(CLASSES), images=10_000))
    assert path.stat().st_size < 5 * MEGABYTE
    opened = visit(path)
    assert len(opened.shown()) == 1000
    assert opened.page.locator("#parallel-plot .line").count() == 1000
