"""The page's sections of the winner: how it was trained, what it gets right and wrong, and what became of it."""

from collections.abc import Sequence
from typing import Any

from fmnist.evaluate import SCORES
from tune.page import figures
from tune.page.figures import Run
from tune.page.markup import Cell, Part, chart, code, number, paragraphs, percent, picture, table, text

SHADES = 9
"""Of a confusion matrix."""


def winner(run: Run) -> Part:
    if run.metrics is None:
        words = f"The winner is not retrained yet. {code(f'python -m tune.search --name {run.name} --resume')} does that."
        return "winner", "The winner", paragraphs(words), ""
    test, history = run.metrics["test"], run.metrics.get("epochs", [])
    work = ""
    if history:
        work += (
            '<div class="pair">'
            + chart("loss-plot", "Training loss by epoch")
            + chart("accuracy-plot", "Accuracy by epoch")
            + "</div>"
        )
        work += f"<details><summary>The curves as a table</summary>{_history(history)}</details>"
    work += _classes(test, run.classes) + _confusion(test["confusion"], run.classes)
    words = [
        "Trained anew on all training images. Its curves are of augmented images, with dropout and label smoothing at work: the "
        "validation accuracy of its trial, in the search, can lie above.",
        f"On the test images, macro F1 is {percent(test['f1']['macro'])}, macro AUROC {_auroc(test['auroc']['macro'])}, loss "
        f"{test['loss']:.4f}, and the expected calibration error {percent(test['ece'])}.",
    ]
    if run.predictions is None:
        words.append(
            "ROC curves and mistakes need best/test_predictions.npz, which searches keep from now on; "
            f"{code(f'python -m fmnist.evaluate {run.name}')} draws both."
        )
    else:
        work += '<h3 id="roc">ROC, each class against the rest</h3>' + chart(
            "roc-plot",
            "True positives by false positives; on the right the upper left corner",
            "Point at a curve, or go through the classes with the arrow keys.",
        )
    return "winner", "The winner", paragraphs(*words), work


def _history(history: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            (
                str(row["epoch"]),
                number(row["train_loss"], f"{row['train_loss']:.4f}"),
                number(row["train_accuracy"], percent(row["train_accuracy"])),
            ),
            "",
        )
        for row in history
    ]
    return table("Training of the winner", ("epoch", Cell("loss", style="n"), Cell("accuracy", style="n")), rows)


def _classes(test: dict[str, Any], classes: Sequence[str]) -> str:
    rows = [
        (
            (
                text(name),
                *(number(test[score]["per_class"][place], percent(test[score]["per_class"][place])) for score in SCORES),
                _auroc(test["auroc"]["per_class"][place]),
                number(test["support"][place], f"{test['support'][place]:,}"),
            ),
            f' data-class="{place}"',
        )
        for place, name in enumerate(classes)
    ]
    means = (
        "macro mean",
        *(number(None, percent(test[score]["macro"])) for score in SCORES),
        Cell(_auroc(test["auroc"]["macro"]), style="n"),
        number(None, f"{test['images']:,}"),
    )
    heads = ("class", *(Cell(name, style="n") for name in ("precision", "recall", "F1", "AUROC", "images")))
    return "<h3>Each class</h3>" + table(
        "Scores of each class on the test images", heads, [*rows, (means, ' class="sum"')], "sortable"
    )


def _auroc(value: float | None) -> Cell:
    return number(value, "–" if value is None else f"{value:.4f}")


def _confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    heads = ("true class", *(Cell(f"<span>{text(name)}</span>", style="up") for name in classes))
    rows = [
        ((text(name), *(_count(count, sum(counts), row == column) for column, count in enumerate(counts))), "")
        for row, (name, counts) in enumerate(zip(classes, confusion, strict=True))
    ]
    caption = "Test images of each true class (row) by the class predicted (column)"
    return "<h3>Confusion matrix</h3>" + table(caption, heads, rows, "confusion")


def _count(count: int, total: int, right: bool) -> Cell:
    """A count, shaded by its share of the true class; the square root lets small shares show."""
    shade = min(round(SHADES * (count / total) ** 0.5), SHADES) if total else 0
    return Cell(f"{count:,}" if count else "·", style=f"n {'right' if right else 'wrong'} s{shade}")


def mistakes(run: Run) -> Part | None:
    if run.predictions is None:
        return None
    kept, classes = run.predictions, run.classes
    said = figures.probabilities(kept["logits"][kept["mistakes"]])
    shown = "".join(
        _mistake(picture(image), classes[kept["labels"][place]], classes[int(row.argmax())], float(row.max()))
        for place, image, row in zip(kept["mistakes"], kept["images"], said, strict=True)
    )
    words = paragraphs(
        f"The {len(kept['mistakes'])} wrong answers on test images that the winner was surest of: the label, what was predicted, "
        "and the probability given to that. Labels can be wrong too."
        if shown
        else "The winner made no mistake."
    )
    return "mistakes", "Surest mistakes", words, f'<ul class="mistakes">{shown}</ul>' if shown else ""


def _mistake(address: str, truth: str, predicted: str, probability: float) -> str:
    return (
        f'<li><img src="{address}" alt="" width="84" height="84"><span>{text(truth)}</span> '
        f"<span>→ {text(predicted)} {probability:.1%}</span></li>"
    )


def export(run: Run) -> Part:
    words: list[str] = []
    if parity := run.parity:
        words.append(
            f"The ONNX file gives PyTorch’s answers: over {parity['images']:,} test images its logits differ by at most "
            f"{parity['max_abs_diff']:.1e}, where {parity['tolerance']:.1e} is allowed, and {parity['labels_differing']:,} labels "
            f"differ. Its accuracy is {percent(parity['onnx_accuracy'])}, PyTorch’s {percent(parity['pytorch_accuracy'])} (on "
            f"{text(parity['provider'])})."
        )
    else:
        commands = [f"python -m export.{step} {run.name}" for step in ("to_onnx", "verify")]
        words.append(f"It is not verified yet: {' and '.join(map(code, commands))} do that.")
    if run.latency is None:
        words.append(f"Its latency is not measured yet: {code(f'python -m export.benchmark {run.name}')}.")
    if not parity or run.latency is None:
        words.append(f"Then {code(f'python -m tune.report {run.name}')} makes this page anew.")
    return "export", "The exported model", paragraphs(*words), _latency(run.latency) if run.latency else ""


BACKENDS = {
    "onnxruntime": "ONNX Runtime",
    "onnxruntime-int8": "ONNX Runtime, int8",
    "pytorch": "PyTorch",
    "pytorch-compiled": "PyTorch, compiled",
    "openvino": "OpenVINO",
}


def _latency(latency: dict[str, Any]) -> str:
    singles = [row for row in latency["rows"] if row["mode"] == "single-stream"]
    eager = {(row["threads"], row["batch"]): row["p50_us"] for row in singles if row["backend"] == "pytorch"}
    rows = [
        (
            (
                text(BACKENDS.get(row["backend"], row["backend"])),
                number(row["batch"], f"{row['batch']:,}"),
                number(row["threads"], str(row["threads"])),
                *(number(row[key], "–" if row[key] is None else f"{row[key]:,.0f}") for key in ("p50_us", "p90_us", "p99_us")),
                number(row["images_per_s"], f"{row['images_per_s']:,.0f}"),
                _ratio(row, eager.get((row["threads"], row["batch"]))),
            ),
            "",
        )
        for row in sorted(singles, key=lambda row: (row["threads"], row["batch"], row["backend"]))
    ]
    heads = (
        "backend",
        *(Cell(name, style="n") for name in ("batch", "threads", "p50 µs", "p90 µs", "p99 µs", "images/s", "p50 ×")),
    )
    where = text(singles[0]["provider"]) if rows else ""
    return table(f"Latency on {where}; × is how much faster than PyTorch", heads, rows)


def _ratio(row: dict[str, Any], eager: float | None) -> Cell:
    if eager is None or row["backend"] == "pytorch":
        return number(None, "")
    return number(eager / row["p50_us"], f"{eager / row['p50_us']:.2f}×")
