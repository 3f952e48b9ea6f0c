"""The winner: how it was trained, what it gets right and wrong, and the exported model."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from fmnist.data.origins import printable
from fmnist.evaluation.metrics import SCORES, confused_pairs
from tune.page import figures
from tune.page.markup import (
    Cell,
    Row,
    Section,
    chart,
    code,
    number,
    number_heads,
    paragraphs,
    percent,
    picture,
    table,
    text,
)
from tune.page.run_files import Run

SHADES = 9
"""Shades of a cell in the confusion matrix, s1 to s9 in report.css."""
BACKENDS = {
    "onnxruntime": "ONNX Runtime",
    "onnxruntime-int8": "ONNX Runtime, int8",
    "pytorch": "PyTorch",
    "pytorch-compiled": "PyTorch, compiled",
    "openvino": "OpenVINO",
}


def winner(run: Run) -> Section:
    title = "The winner"
    if run.metrics is None:
        resume = code(f"python -m tune.search --name {run.name} --resume")
        words = f"The winner is not retrained yet. {resume} does that."
        return Section("winner", title, paragraphs(words))

    test = run.metrics["test"]
    words = [
        "Trained anew on all training images. Its curves are of augmented images, with dropout "
        "and label smoothing at work: the validation accuracy of its trial, in the search, can "
        "lie above.",
        f"On the test images, macro F1 is {percent(test['f1']['macro'])}, macro AUROC "
        f"{_auroc(test['auroc']['macro'])}, loss {test['loss']:.4f}, and the expected "
        f"calibration error {percent(test['ece'])}.",
    ]
    work = _curves(run.metrics.get("epochs", []))
    work += _classes(test, run) + _confusion(test, run.classes)
    if run.predictions is None:
        evaluate = code(f"python -m fmnist.evaluate {run.name}")
        words.append(
            "ROC curves and mistakes need best/test_predictions.npz, which searches keep from "
            f"now on; {evaluate} draws both."
        )
    elif "logits" not in run.predictions:
        words.append(
            f"ROC curves are left out: the answers of {len(run.classes):,} classes on "
            f"{test['images']:,} images are too many to keep."
        )
    else:
        work += '<h3 id="roc">ROC, each class against the rest</h3>'
        work += chart(
            "roc-plot",
            "True positives by false positives; on the right the upper left corner",
            "Point at a curve, or go through the classes with the arrow keys.",
        )

    return Section("winner", title, paragraphs(*words), work)


def _curves(history: Sequence[dict[str, Any]]) -> str:
    """The training by epoch, as charts and as a table."""
    if not history:
        return ""

    loss = chart("loss-plot", "Training loss by epoch")
    accuracy = chart("accuracy-plot", "Accuracy by epoch")
    # The table has in text what the charts show, for those who cannot see them.
    rows: list[Row] = []
    for epoch in history:
        cells = [
            Cell(str(epoch["epoch"])),
            number(epoch["train_loss"], f"{epoch['train_loss']:.4f}"),
            number(epoch["train_accuracy"], percent(epoch["train_accuracy"])),
        ]
        rows.append(Row(cells))

    heads = [Cell("epoch"), *number_heads("loss", "accuracy")]
    content = table("Training of the winner", heads, rows)
    details = f"<details><summary>The curves as a table</summary>{content}</details>"

    return f'<div class="pair">{loss}{accuracy}</div>{details}'


def _classes(test: dict[str, Any], run: Run) -> str:
    rows: list[Row] = []
    for place, numbered in enumerate(run.shown):
        cells = [Cell(text(run.classes[numbered]))]
        for score in SCORES:
            value = test[score]["per_class"][numbered]
            cells.append(number(value, percent(value)))
        auroc = test["auroc"]["per_class"][numbered]
        support = test["support"][numbered]
        cells.append(number(auroc, _auroc(auroc)))
        cells.append(number(support, f"{support:,}"))

        rows.append(Row(cells, f' data-class="{place}"'))

    means = [Cell("macro mean")]
    for score in SCORES:
        mean = percent(test[score]["macro"])
        means.append(number(None, mean))
    means.append(number(None, _auroc(test["auroc"]["macro"])))
    means.append(number(None, f"{test['images']:,}"))
    rows.append(Row(means, ' class="sum"'))

    heads = [Cell("class"), *number_heads("precision", "recall", "F1", "AUROC", "images")]
    title, caption = "Each class", "Scores of each class on the test images"
    if len(run.shown) < len(run.classes):
        title = f"The {len(run.shown)} classes with the lowest F1"
        caption = f"Scores on the test images of {len(run.shown)} of {len(run.classes):,} classes"

    return f"<h3>{title}</h3>" + table(caption, heads, rows, "sortable")


def _auroc(value: float | None) -> str:
    # A class that does not occur has none.
    return "–" if value is None else f"{value:.4f}"


def _confusion(test: dict[str, Any], classes: Sequence[str]) -> str:
    """The matrix; of many classes, the pairs most often confused."""
    confusion: list[list[int]] | None = test["confusion"]
    if confusion is None:
        return _pairs(confused_pairs(test, classes))

    heads = [Cell("true class")]
    for name in classes:
        # Upright, or a column would be as wide as the name of its class.
        upright = f"<span>{text(name)}</span>"
        heads.append(Cell(upright, style="up"))

    rows: list[Row] = []
    for row, (name, counts) in enumerate(zip(classes, confusion, strict=True)):
        cells = [Cell(text(name))]
        total = sum(counts)
        for column, count in enumerate(counts):
            cells.append(_count(count, total, right=row == column))
        rows.append(Row(cells))

    caption = "Test images of each true class (row) by the class predicted (column)"

    return "<h3>Confusion matrix</h3>" + table(caption, heads, rows, "confusion")


def _pairs(pairs: Sequence[dict[str, Any]]) -> str:
    rows: list[Row] = []
    for pair in pairs:
        cells = [
            Cell(text(pair["true"])),
            Cell(text(pair["predicted"])),
            number(pair["count"], f"{pair['count']:,}"),
            number(pair["share"], percent(pair["share"])),
        ]
        rows.append(Row(cells))

    heads = [Cell("true class"), Cell("predicted"), *number_heads("images", "of its images")]
    caption = "Classes most often confused on the test images"
    return "<h3>Most often confused</h3>" + table(caption, heads, rows, "sortable")


def _count(count: int, total: int, *, right: bool) -> Cell:
    """A count, shaded by its share of the true class; the square root lets small shares show."""
    # A class that does not occur has a row of zeros, and a total of 0.
    share = count / max(total, 1)
    shade = min(round(SHADES * share**0.5), SHADES)
    kind = "right" if right else "wrong"
    shown = f"{count:,}" if count else "·"
    return Cell(shown, style=f"n {kind} s{shade}")


def mistakes(run: Run, kept: dict[str, NDArray[Any]]) -> Section:
    """Args: kept: the winner's predictions; `images` are those of its `mistakes`."""
    title = "Surest mistakes"
    if not len(kept["mistakes"]):
        return Section("mistakes", title, paragraphs("The winner made no mistake."))

    words = paragraphs(
        f"The {len(kept['mistakes'])} wrong answers on test images that the winner was surest of: "
        "the label, what was predicted, and the probability given to that. "
        "Labels can be wrong too."
    )
    labels = kept["labels"][kept["mistakes"]]
    items: list[str] = []
    for place, (image, label) in enumerate(zip(kept["images"], labels, strict=True)):
        predicted, confidence = _answer(kept, place)
        file = ""
        if "files" in kept:
            file = f" <small>{text(printable(str(kept['files'][place])))}</small>"
        # No alternative text: all there is to say of the picture stands beside it.
        items.append(
            f'<li><img src="{picture(image)}" alt="" width="84" height="84">'
            f"<span>{text(run.classes[label])}</span> "
            f"<span>→ {text(run.classes[predicted])} {confidence:.1%}</span>{file}</li>"
        )

    return Section("mistakes", title, words, f'<ul class="mistakes">{"".join(items)}</ul>')


def _answer(kept: dict[str, NDArray[Any]], place: int) -> tuple[int, float]:
    """The class predicted of a mistake, by its place among them, and its probability."""
    if "predicted" in kept:
        return int(kept["predicted"][place]), float(kept["confidence"][place])
    # Earlier versions kept the logits alone.
    index = kept["mistakes"][place]
    probabilities = figures.probabilities(kept["logits"][index : index + 1])[0]
    return int(probabilities.argmax()), float(probabilities.max())


def export(run: Run) -> Section:
    words: list[str] = []
    parity = run.parity
    if parity:
        words.append(
            f"The ONNX file gives PyTorch’s answers: over {parity['images']:,} test images its "
            f"logits differ by at most {parity['max_abs_diff']:.1e}, where "
            f"{parity['tolerance']:.1e} is allowed, and {parity['labels_differing']:,} labels "
            f"differ. Its accuracy is {percent(parity['onnx_accuracy'])}, PyTorch’s "
            f"{percent(parity['pytorch_accuracy'])} (on {text(parity['provider'])})."
        )
    else:
        convert = code(f"python -m export.to_onnx {run.name}")
        verify = code(f"python -m export.verify {run.name}")
        words.append(f"It is not verified yet: {convert} and {verify} do that.")

    if run.latency is None:
        benchmark = code(f"python -m export.benchmark {run.name}")
        words.append(f"Its latency is not measured yet: {benchmark}.")
    if not run.parity or run.latency is None:
        report = code(f"python -m tune.report {run.name}")
        words.append(f"Then {report} makes this page anew.")

    work = ""
    if run.latency:
        work = _latency(run.latency)

    return Section("export", "The exported model", paragraphs(*words), work)


def _latency(latency: dict[str, Any]) -> str:
    # Rows of the other modes measure rates, not the latency of a call.
    singles = [row for row in latency["rows"] if row["mode"] == "single-stream"]

    eager_p50: dict[tuple[int, int], float] = {}
    for row in singles:
        if row["backend"] == "pytorch":
            eager_p50[row["threads"], row["batch"]] = row["p50_us"]

    ordered = sorted(singles, key=lambda row: (row["threads"], row["batch"], row["backend"]))
    rows: list[Row] = []
    for row in ordered:
        reference = eager_p50.get((row["threads"], row["batch"]))
        rows.append(_latency_row(row, reference))

    names = ("batch", "threads", "p50 µs", "p90 µs", "p99 µs", "images/s", "p50 ×")
    heads = [Cell("backend"), *number_heads(*names)]
    where = text(singles[0]["provider"]) if singles else ""

    return table(f"Latency on {where}; × is how much faster than PyTorch", heads, rows)


def _latency_row(row: dict[str, Any], eager_p50: float | None) -> Row:
    cells = [
        Cell(text(BACKENDS.get(row["backend"], row["backend"]))),
        number(row["batch"], f"{row['batch']:,}"),
        number(row["threads"], str(row["threads"])),
    ]
    cells += [_microseconds(row[key]) for key in ("p50_us", "p90_us", "p99_us")]
    cells.append(number(row["images_per_s"], f"{row['images_per_s']:,.0f}"))
    cells.append(_ratio(row, eager_p50))
    return Row(cells)


def _microseconds(value: float | None) -> Cell:
    # Of few calls there is no p99.
    return number(value, "–" if value is None else f"{value:,.0f}")


def _ratio(row: dict[str, Any], eager_p50: float | None) -> Cell:
    """How much faster a backend is than PyTorch with as many threads and images."""
    if eager_p50 is None or row["backend"] == "pytorch":
        return number(None, "")
    ratio = eager_p50 / row["p50_us"]
    return number(ratio, f"{ratio:.2f}×")
