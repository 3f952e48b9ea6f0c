"""report.html: its numbers are those of the run's files, no text in them can break it, and a real
browser shows it."""

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
from fmnist.data.formats import CLASSES
from fmnist.errors import InputError
from fmnist.runs.files import read_json, write_json
from tests.browser import NARROW, WIDE
from tests.conftest import Outcome
from tests.tune.scripted import (
    HOSTILE,
    read_npz,
    search_records,
    write_best,
    write_export,
    write_search,
)
from tune.page.assemble import CHARTS, FILES, write_report
from tune.page.figures import (
    Cost,
    Leg,
    Step,
    axes,
    best_so_far,
    cost,
    importance,
    legs,
    probabilities,
    roc,
)
from tune.page.markup import embed, text
from tune.page.run_files import read_run
from tune.state import TrialRecord, winner

MEGABYTE = 1_000_000


class Reader(HTMLParser):
    """The content of a page: its text, the rows of its tables by their caption, and its data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.scripts = [""]
        self.tables: dict[str, list[list[str]]] = {}
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


def record(
    number: int, curve: list[float], outcome: str = "finished", **values: Any
) -> TrialRecord:
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
    assert legs(records, [1], 3) == [
        Leg(start=0, end=1, trained=3, epochs=3, seconds=4.5, best=0.5),
        Leg(start=1, end=3, trained=2, epochs=3, seconds=5.5, best=0.7),
    ]

    in_full = 6.0 + 3.0 + 4.5
    assert cost(records) == Cost(epochs=6, seconds=10.0, full_epochs=9, full_seconds=in_full)

    failed = records[3:]
    assert cost(failed).full_epochs == 0
    assert [leg.best for leg in legs(failed, [1], 3)] == [None, None]


def test_best_so_far_goes_by_time_and_up() -> None:
    records = [
        record(0, [0.5, 0.6, 0.9], times=[2.0, 4.0, 6.0]),
        record(1, [0.55, 0.58], "stopped at rung 2", times=[1.0, 5.0]),
        record(2, [0.99], "diverged: x", times=[0.5]),
        # Written by an early version, whose records had no times.
        record(3, [0.95]),
    ]
    assert best_so_far(records) == [
        Step(seconds=1.0, accuracy=0.55, number=1, epoch=1),
        Step(seconds=4.0, accuracy=0.6, number=0, epoch=2),
        Step(seconds=6.0, accuracy=0.9, number=0, epoch=3),
    ]


def test_axes_follow_the_space() -> None:
    records = [
        record(0, [0.5], lr=0.3, widths=(64,)),
        record(1, [0.5], lr=0.01),
        record(2, [0.5], lr=0.02, widths=(16, 32)),
    ]
    space = {
        "model": ["airnet"],
        "lr": {"by": "model", "airnet": {"low": 0.01, "high": 0.3}},
        "widths": [[], [64], [16, 32]],
    }
    lr, widths = axes(space, records)
    assert (lr.field, lr.labels, lr.log, lr.values) == ("lr", (), True, (0.3, 0.01, 0.02))
    assert (widths.labels, widths.values) == (("default", "64", "16-32"), (1.0, 0.0, 2.0))

    without_space = {axis.field: axis.labels for axis in axes(None, records)}
    assert without_space == {"widths": widths.labels, "lr": ("0.01", "0.02", "0.3")}


def test_importance_finds_the_parameter_that_matters() -> None:
    records: list[TrialRecord] = []
    for number in range(30):
        good = number % 2
        widths = (16 + 16 * good,)
        records.append(
            record(number, [0.5 + 0.01 * good, 0.1], lr=0.01 * (number + 1), widths=widths)
        )

    parameters = axes({"lr": {"low": 0.01, "high": 1.0}, "widths": [[16], [32]]}, records)
    losses = importance(records, parameters, 1)
    assert losses is not None
    assert (losses.epoch, losses.trials) == (1, 30)

    (first, first_loss, _), (_, second_loss, _) = losses.rows
    assert first == "widths"
    assert first_loss > 10 * abs(second_loss)
    assert losses.explained > 0.5
    assert losses == importance(records, parameters, 1)
    assert importance(records[:9], parameters, 1) is None
    assert importance([record(n, []) for n in range(30)], parameters, 1) is None


def test_roc_of_a_class_that_does_not_occur_is_empty(tmp_path: Path) -> None:
    kept = read_npz(write_best(tmp_path / "r") / "best/test_predictions.npz")
    labels = kept["labels"].copy()
    labels[labels == 2] = 1
    curves = roc(labels, kept["logits"].astype(float), range(len(HOSTILE)))
    assert curves[2] == []
    assert curves[0][0] == (0.0, 0.0)
    assert curves[0][-1] == (1.0, 1.0)
    assert all(len(curve) <= 160 for curve in curves)


def test_predictions_kept_of_the_test_set_are_small_and_sorted(tmp_path: Path) -> None:
    path = write_best(tmp_path / "r", classes=10, images=10_000) / "best/test_predictions.npz"
    kept = read_npz(path)
    assert path.stat().st_size < MEGABYTE // 2
    assert kept["logits"].dtype.name == "float32"
    assert kept["labels"].dtype.name == kept["images"].dtype.name == "uint8"
    assert kept["images"].shape == (24, 28, 28)

    mistakes = kept["mistakes"]
    assert (kept["logits"][mistakes].argmax(1) != kept["labels"][mistakes]).all()

    sure = probabilities(kept["logits"])[mistakes].max(1)
    assert (sure[:-1] >= sure[1:]).all()


# The page.


@pytest.fixture
def whole_run(tmp_path: Path) -> Path:
    return write_export(write_best(write_search(tmp_path / "r", search_records(20, 9))))


def test_the_words_have_the_numbers_of_the_files(whole_run: Path) -> None:
    page = read_page(whole_run)
    records = read_run(whole_run).records
    best = winner(records)
    assert best is not None

    test = read_json(whole_run / "best/metrics.json")["test"]
    for words in (
        f"{best.accuracy:.2%}",
        f"{test['accuracy']:.2%}",
        "The search took 2.2 min",
        "c8814d5c8814",
        "2,345 MB",
        "torch 2.15.0",
        "3.8e-06",
    ):
        assert words in page.text

    spent = sum(len(one.curve) for one in records)
    full = 9 * 19  # One of the 20 had no epoch.
    assert (
        f"Together they trained {spent} epochs, {spent / full:.0%} of the {full} that all in full "
        "would take" in page.text
    )


def test_tables_and_charts_have_every_trial(whole_run: Path) -> None:
    page = read_page(whole_run)
    records = read_run(whole_run).records
    rows = {int(row[0]): row for row in page.tables["All trials"][1:]}
    drawn = {trial["n"]: trial for trial in page.data["trials"]}
    assert len(rows) == len(drawn) == len(records)

    for one in records:
        accuracy = f"{one.accuracy:.2%}" if one.curve else "–"
        row = rows[one.number]
        assert row[1:4] == [accuracy, str(len(one.curve)), one.outcome]
        assert f"{one.config.lr:g}" in row
        assert drawn[one.number]["curve"] == one.curve
        assert drawn[one.number]["outcome"] == one.outcome

    best = winner(records)
    assert best is not None
    assert page.data["winner"] == best.number

    costs = page.tables["Epochs and seconds from rung to rung"][1:]
    assert [row[0] for row in costs] == ["1", "2 to 3", "4 to 9", "all", "in full"]

    epochs = [int(row[2].replace(",", "")) for row in costs]
    assert sum(epochs[:3]) == epochs[3] == sum(len(one.curve) for one in records)


def test_tables_have_the_winners_scores(whole_run: Path) -> None:
    page = read_page(whole_run)
    test = read_json(whole_run / "best/metrics.json")["test"]
    scores = page.tables["Scores of each class on the test images"]
    for place, row in enumerate(scores[1:-1]):
        values = [test[score]["per_class"][place] for score in ("precision", "recall", "f1")]
        shown = [f"{value:.2%}" for value in values]
        auroc, support = test["auroc"]["per_class"][place], test["support"][place]
        assert row == [HOSTILE[place], *shown, f"{auroc:.4f}", str(support)]

    confusion = page.tables["Test images of each true class (row) by the class predicted (column)"]
    counts = [[int(cell.replace("·", "0")) for cell in row[1:]] for row in confusion[1:]]
    assert counts == test["confusion"]

    latency = page.tables["Latency on cpu; × is how much faster than PyTorch"]
    assert latency[1] == ["ONNX Runtime", "1", "1", "281", "309", "366", "3,555", "4.33×"]


@pytest.mark.parametrize("classes", [1000, 20_000])
def test_of_many_classes_the_page_shows_the_worst(classes: int, tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(classes))
    run = write_search(tmp_path / "r", search_records(6, 3), classes=names)
    page = read_page(write_best(run, classes=classes))
    assert (run / "report.html").stat().st_size < MEGABYTE

    test = read_json(run / "best/metrics.json")["test"]
    scores = page.tables[f"Scores on the test images of 30 of {classes:,} classes"][1:-1]
    worst = min(value for value in test["f1"]["per_class"] if value is not None)
    assert scores[0][3] == f"{worst:.2%}"
    assert len(scores) == 30
    assert page.data["classes"] == [row[0] for row in scores]

    pairs = page.tables["Classes most often confused on the test images"][1:]
    first = test["confused"][0]
    assert pairs[0][:2] == [names[first["true"]], names[first["predicted"]]]

    # Of 20,000 classes the logits are not kept, so that there is no curve to draw.
    assert len(page.data["roc"]) == (30 if classes == 1000 else 0)
    assert ("ROC curves are left out" in page.text) == (classes == 20_000)
    mistake = read_npz(run / "best/test_predictions.npz")
    assert f"→ class {mistake['predicted'][0]} {mistake['confidence'][0]:.1%}" in page.text


def test_mistakes_of_an_imported_set_name_their_files(tmp_path: Path) -> None:
    files = [{"file": f"a/<{number}>\n.png"} for number in range(600)]
    (tmp_path / "files.jsonl").write_text("".join(f"{json.dumps(file)}\n" for file in files))
    run = write_best(write_search(tmp_path / "r", search_records(6, 3)), folder=tmp_path)
    page = read_page(run)
    kept = read_npz(run / "best/test_predictions.npz")
    for index in kept["mistakes"].tolist():
        assert f"a/<{index}>\\n.png" in page.text


def test_every_file_of_the_charts_is_in_the_page() -> None:
    assert sorted(CHARTS) == sorted(path.stem for path in (FILES / "charts").glob("*.js"))


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


def test_a_run_that_is_not_whole_yet_says_what_is_missing(tmp_path: Path) -> None:
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
        (
            [record(n, [0.5], "out of time", lr=0.1 * (n + 1)) for n in range(12)],
            "This needs at least 10 trials that differ",
        ),
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
    assert done.code == 0
    assert done.output.splitlines() == [
        "saved in runs/r/report.html",
        "runs/r: the newest run with a trial that is done",
    ]
    assert (run / "report.html").exists()

    (run / "best").mkdir()
    (run / "best/test_predictions.npz").write_bytes(b"PK\x03\x04 cut short")
    done = call("tune.report", "r")
    assert done.code == 2
    assert done.output.startswith("error: runs/r/best/test_predictions.npz is damaged: ")

    (run / "search/trials.jsonl").unlink()
    done = call("tune.report", "r")
    assert done.code == 2
    assert done.output == (
        "error: run='runs/r': runs/r/search/trials.jsonl has no trial that is done; "
        "name the run of a search\n"
    )

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
        return self.page.eval_on_selector_all(
            "tr[data-n]:not([hidden])", "rows => rows.map(row => Number(row.dataset.n))"
        )


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
def test_everybody_can_read_it(
    visit: Callable[..., Opened], report: Path, width: int, scheme: str
) -> None:
    page = visit(report, width, scheme).page
    assert page.title() == "r: search report"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg").count() >= 6

    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")

    violations = Axe().run(page).response["violations"]
    serious = [one for one in violations if one["impact"] in ("serious", "critical")]
    assert serious == []


def test_an_axis_filters_all(visit: Callable[..., Opened], report: Path) -> None:
    opened = visit(report)
    page, everyone = opened.page, opened.shown()
    slider = page.get_by_role("slider", name="optimizer, lowest kept")
    slider.press("ArrowRight")
    page.wait_for_selector("#all")
    drawn = Reader(report.read_text()).data["trials"]
    nesterov = [trial["n"] for trial in drawn if "nesterov" in trial["about"]]
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

    # The last axis is the validation accuracy.
    strip = page.locator("#parallel-plot .catch").last
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
    # The table is sorted by accuracy.
    assert best == everyone[: len(best)]
    assert 0 < len(best) < len(everyone)

    page.click("#all")
    page.wait_for_selector("#all", state="hidden")
    assert opened.shown() == everyone


def test_pointer_and_keys_choose_a_trial_everywhere(
    visit: Callable[..., Opened], report: Path
) -> None:
    page = visit(report).page
    data = Reader(report.read_text()).data
    with_epochs = [trial for trial in data["trials"] if trial["accuracy"] is not None]
    ranked = sorted(with_epochs, key=lambda trial: -trial["accuracy"])
    for name in ("Chart: validation accuracy by epoch", "Chart: 9 parameters"):
        chart = page.get_by_role("group", name=re.compile(name))
        chart.focus()
        line = chart.locator("xpath=..").locator(".said")
        hint = line.inner_text()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        second = ranked[1]
        assert line.inner_text().startswith(
            f"Trial {second['n']}: {second['accuracy']:.2%} after {len(second['curve'])} epoch"
        )
        assert second["outcome"] in line.inner_text()
        assert page.locator("#fan-plot .chosen").count() == 1
        assert page.locator("#parallel-plot .chosen").count() == 1
        assert page.locator("tr.pointed").get_attribute("data-n") == str(second["n"])
        page.keyboard.press("Escape")
        assert line.inner_text() == hint
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
    wanted = page.eval_on_selector_all(
        "[tabindex='0'], a, button:not([hidden]), summary", "all => all.length"
    )
    focused = "document.activeElement"
    reached: set[str] = set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(f"{focused}.id || {focused}.getAttribute('aria-label') || ''"))

    charts = {"fan-plot", "time-plot", "parallel-plot", "roc-plot"}
    assert charts | {"All trials", "learning rate, highest kept"} <= reached


def test_heads_sort_the_table(visit: Callable[..., Opened], report: Path) -> None:
    opened = visit(report)
    page = opened.page
    head = page.get_by_role("columnheader", name="learning rate")
    rates = {trial["n"]: trial["at"][4] for trial in Reader(report.read_text()).data["trials"]}
    for direction, sign in (("descending", -1), ("ascending", 1)):
        head.get_by_role("button").press("Enter")
        assert head.get_attribute("aria-sort") == direction
        shown = [rates[number] for number in opened.shown()]
        assert shown == sorted(shown, key=lambda rate: sign * rate)

    page.get_by_role("columnheader", name="validation").get_by_role("button").click()
    # Trial 2 has no accuracy.
    assert opened.shown()[-1] == 2
    assert head.get_attribute("aria-sort") is None

    page.get_by_role("columnheader", name="recall").get_by_role("button").click()
    last = page.locator("table:has(tr[data-class]) tbody tr").last
    assert last.inner_text().startswith("macro mean")


def test_classes_of_the_roc_are_told(visit: Callable[..., Opened], report: Path) -> None:
    page = visit(report).page
    page.locator("#roc-plot").focus()
    page.keyboard.press("Home")
    auroc = Reader(report.read_text()).data["auroc"]
    lowest = min(range(len(auroc)), key=lambda place: auroc[place])
    line = page.locator("figure:has(#roc-plot) .said").inner_text()
    assert line.startswith(f"{HOSTILE[lowest]}: AUROC {auroc[lowest]:.4f}")
    assert page.locator("#roc-plot .chosen").count() == 2


def test_a_thousand_trials_open_whole(visit: Callable[..., Opened], tmp_path: Path) -> None:
    records = search_records(1000, 27)
    # The most that there can be: every trial in full.
    for one in records:
        while 0 < len(one.curve) < 27:
            one.curve.append(round(one.curve[-1] + 0.001, 4))
        one.times = [round(one.number + 2.1 * k, 2) for k in range(len(one.curve))]

    run = write_search(tmp_path / "r", records, CLASSES)
    path = write_report(write_best(run, classes=len(CLASSES), images=10_000))
    assert path.stat().st_size < 5 * MEGABYTE

    opened = visit(path)
    assert len(opened.shown()) == 1000
    assert opened.page.locator("#parallel-plot .line").count() == 1000
