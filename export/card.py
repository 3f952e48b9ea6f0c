"""MODEL_CARD.md, written from a bundle's manifest (after Mitchell et al., 2019): what the model is for, and how far to trust it."""

from collections.abc import Iterator
from typing import Any

from fmnist.evaluate import accuracy_interval, confused_pairs

MOST_CONFUSED = 5

LIMITS = (
    "Every picture gets one of these classes, also one that shows none of them: a low probability is no proof, and a high one "
    "neither. Pictures unlike those of the data set (several things, people wearing them, a busy ground, other lighting) are not "
    "covered by the figures below."
)


def model_card(manifest: dict[str, Any]) -> str:
    return "\n".join(_lines(manifest)) + "\n"


def _lines(manifest: dict[str, Any]) -> Iterator[str]:
    data, (train, *others) = manifest["data"], manifest["train"]
    members = f", the average of {len(others) + 1} models" if others else ""
    flips = ", seeing each image and its mirror image" if manifest["average_flips"] else ""
    yield from (f"# {train['model']} for {data['name']}", "")
    yield f"An image classifier of {len(manifest['labels'])} classes{members}{flips}: {', '.join(manifest['labels'])}."
    shape = "×".join(map(str, manifest["input"][0]["shape"][1:]))
    yield f"It takes uint8 pixels ({shape}); normalisation is inside the graph."
    yield from ("", "## Intended use", "", f"Telling the classes of {data['name']} apart in pictures like its own. {LIMITS}")
    yield from ("", "## Data", "", f"{data['name']}, by SHA-256 of its unpacked files:", "")
    yield from (f"- `{name}`: `{digest}`" for name, digest in data["sha256"].items())
    yield from ("", "## Training", "", *_training(manifest))
    yield from ("", "## Measured", "", *_measured(manifest))
    yield from ("", "## Variants", "", *_variants(manifest))
    yield from ("", "## Speed", "", *_speed(manifest))
    yield from ("", "## How to run", "", "```bash", "pip install onnxruntime numpy pillow", "python client.py IMAGE…", "```", "")
    yield "`python client.py --check` holds every file against the manifest's SHA-256, and the graph against the golden samples."


def _training(manifest: dict[str, Any]) -> Iterator[str]:
    for train in manifest["train"]:
        widths = f" {'-'.join(map(str, train['widths']))}" if train["widths"] else ""
        how = f"{train['optimizer']} at {train['lr']}, batch {train['global_batch_size']}, {train['schedule']}"
        yield f"- {train['model']}{widths}, {train['epochs']} epochs, {how}, seed {train['seed']}"
    environment = manifest["environment"]
    commit = environment.get("git_commit")
    dirty = " (with changes)" if environment.get("git_dirty") else ""
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    yield f"- by {f'commit `{commit}`{dirty}' if commit else 'code outside a checkout'}; {versions}"


def _measured(manifest: dict[str, Any]) -> Iterator[str]:
    if (found := manifest["verified"]) is None:
        yield "Not verified yet: `python -m export.verify`."
        return
    metrics, labels = found.get("metrics"), manifest["labels"]
    yield f"The graph, on {found['provider']}, over the {found['images']:,} official test images:"
    if metrics is None:
        return
    correct = round(metrics["accuracy"] * metrics["images"])
    low, high = accuracy_interval(correct, metrics["images"])
    yield from ("", f"- accuracy **{metrics['accuracy']:.2%}** (95 % interval {low:.2%} to {high:.2%}), loss {metrics['loss']:.4f}")
    if metrics["auroc"]["macro"] is not None:
        yield f"- AUROC, one class against the rest, mean: {metrics['auroc']['macro']:.4f}"
    yield f"- mean confidence {metrics['mean_confidence']:.2%}, expected calibration error {metrics['ece']:.4f}"
    if found.get("max_abs_diff") is not None:
        yield f"- logits within {found['max_abs_diff']:.1e} of PyTorch's; {found['labels_differing']} labels differ"
    yield from ("", "| class | images | precision | recall (95 % interval) | F1 |", "|---|---:|---:|---:|---:|")
    for number, label in enumerate(labels):
        precision, recall, f1 = (metrics[score]["per_class"][number] for score in ("precision", "recall", "f1"))
        support = metrics["support"][number]
        low, high = accuracy_interval(round(recall * support), support) if support else (0.0, 1.0)
        yield f"| {label} | {support:,} | {precision:.2%} | {recall:.2%} ({low:.1%} to {high:.1%}) | {f1:.2%} |"
    yield from ("", "Most often confused:", "")
    for pair in confused_pairs(metrics["confusion"], labels)[:MOST_CONFUSED]:
        yield f"- {pair['true']} taken for {pair['predicted']}: {pair['count']:,} ({pair['share']:.1%} of its images)"


def _variants(manifest: dict[str, Any]) -> Iterator[str]:
    if not manifest["variants"]:
        yield "Float32 alone; no other was tried."
    for name, variant in manifest["variants"].items():
        if not variant["published"]:
            yield f"- {name}: not published, since {variant['why']}."
            continue
        faster = ", ".join(f"{ratio:.2f} at batch {batch}" for batch, ratio in variant["speedup"].items())
        kept = f"; {len(variant['excluded'])} layers stay in float32" if variant["excluded"] else ""
        lost = f"{100 * variant['accuracy_loss']:+.2f} points lost"
        judged = f"agrees on {variant['agreement']:.2%} of {variant['judged_by']:,} images, {lost}"
        yield f"- `model.{name}.onnx`: times as fast as float32: {faster}; {judged}{kept}."


def _speed(manifest: dict[str, Any]) -> Iterator[str]:
    if (found := manifest["benchmark"]) is None:
        yield "Not measured yet: `python -m export.benchmark`."
        return
    machine = found["machine"]
    yield f"On {machine['processor']}, {machine['cpu_threads']} CPU threads:"
    yield from ("", "| backend | batch | threads | p50, µs | images/s |", "|---|---:|---:|---:|---:|")
    for row in found["rows"]:
        times = f"{row['p50_us']:,.0f} | {row['images_per_s']:,.0f}"
        yield f"| {row['backend']} on {row['provider']} | {row['batch']} | {row['threads']} | {times} |"
