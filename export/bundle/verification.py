"""Verify a bundle, as far as what is at hand allows, and record and print the results.

In order, each with its own error: the signature if a key is given, the manifest, every file's hash,
each graph's form, names and shapes, the golden samples; then, where the data is at hand, values
over the whole test set, against PyTorch where the checkpoint is there too. The test set only
rejects: nothing is selected on it.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from export.bundle.integrity import check_bundle
from export.bundle.layout import SIGNATURE, VERIFIED
from export.bundle.parity import verify
from export.bundle.signature import check_signature
from export.bundle.writer import load_members, refresh, run_of_bundle
from export.providers import Provider
from fmnist.data.dataset import Split, load_info, load_test, load_train
from fmnist.data.info import DataInfo
from fmnist.data.sources import NOT_NAMED, Source, find_data
from fmnist.errors import DataError
from fmnist.evaluation.copies import copies_in_words
from fmnist.evaluation.metrics import IMBALANCE
from fmnist.runs.files import write_json
from fmnist.runs.summary import stage


def verify_bundle(
    bundle: Path, provider: Provider, key: Path | None, source: Source, console: Console
) -> None:
    """Verify a bundle; in a run, record the results there and in the bundle.

    Args:
        key: public key by which the bundle must be signed; a signed bundle stays as it is.
        source: where the data is, by default where it was for the training.

    Raises:
        VerificationError: the bundle is not what it should be.
        InputError: the provider or the data that is named cannot be had.
    """
    run = run_of_bundle(bundle)
    # A bundle alone, on another machine, is only read.
    with stage(run, "verify") if run else nullcontext({}) as summary:
        if key:
            check_signature(bundle, key)
        manifest = check_bundle(bundle, provider)
        signed = (bundle / SIGNATURE).exists()
        console.print(describe_whole(manifest, signed, checked=key is not None))

        # Its own data is in the checkpoint with its folder; a manifest has no paths.
        members = load_members(manifest, run)
        info = members[0].data if members else DataInfo.from_dict(manifest["data"])
        splits = find_splits(info, source)
        if splits is None:
            console.print(
                f"[yellow]not over the test set:[/] {info.name} is not at hand; "
                "name its folder with --data"
            )
            return

        results = verify(bundle, manifest, members, *splits, provider)
        # A signature would not survive new files in the bundle.
        if run and not key:
            summary |= summary_entries(results)
            write_json(bundle / VERIFIED, results)
            refresh(bundle)
    for line in describe_values(results):
        console.print(line)


def find_splits(info: DataInfo, source: Source) -> tuple[Split, Split] | None:
    """The training and the test set of the data `info`; None if they are not at hand.

    Raises:
        InputError: a source is named, and it holds no data or other data.
    """
    try:
        folder = find_data(source, info)
        known = load_info(folder, info)
        return load_train(folder, known), load_test(folder, known)
    except DataError:
        if source != NOT_NAMED:
            raise
        return None


def describe_whole(manifest: dict[str, Any], signed: bool, *, checked: bool) -> str:
    """The line about a bundle that is whole.

    Args:
        checked: the signature was checked.
    """
    names = ["the graph"]
    names += [name for name, variant in manifest["variants"].items() if variant["published"]]
    line = (
        f"[green]whole[/]: manifest, {len(manifest['files'])} files, {' and '.join(names)}, "
        "golden samples"
    )
    if checked:
        return f"{line}; signed by this key"
    if signed:
        return f"{line}; its signature is not checked: --key"
    return line


def describe_values(results: dict[str, Any]) -> Iterator[str]:
    """The lines about the test set: the float32 graph's, then one for each variant."""
    parity = "no checkpoint at hand to compare with"
    if "max_abs_diff" in results:
        parity = (
            f"largest logit difference {results['max_abs_diff']:.1e} "
            f"(at most {results['tolerance']:.1e}), {results['labels_differing']} labels differ; "
            f"PyTorch {results['pytorch_accuracy']:.2%}"
        )
    yield (
        f"[green]passed[/] on {results['provider']}: {results['images']:,} test images, "
        f"accuracy {results['onnx_accuracy']:.2%}; {parity}"
    )
    yield copies_in_words(results["copies"], "test")
    if max(results["imbalance"].values()) >= IMBALANCE:
        metrics = results["metrics"]
        yield (
            f"[yellow]unequal classes[/]; each class alike: macro recall "
            f"{metrics['recall']['macro']:.2%}, macro F1 {metrics['f1']['macro']:.2%}"
        )
    for name, variant in results["variants"].items():
        yield (
            f"[green]passed[/] {name}: accuracy {variant['accuracy']:.2%}, "
            f"{100 * variant['accuracy_loss']:+.2f} points lost, "
            f"the same class on {variant['agreement']:.2%}"
        )


def summary_entries(results: dict[str, Any]) -> dict[str, Any]:
    """What goes into the run's summary.json."""
    accuracy = results["onnx_accuracy"]
    entries = {"parity_provider": results["provider"], "onnx_test_accuracy": accuracy}
    if "max_abs_diff" not in results:
        return entries

    difference, allowed = results["max_abs_diff"], results["tolerance"]
    line = (
        f"ONNX logits within {difference:.1e} of PyTorch's ({allowed:.1e} allowed), "
        f"test {accuracy:.2%}"
    )
    parity = {"parity_max_abs_diff": difference, "parity_tolerance": allowed}
    return entries | parity | {"panel": {"parity": line}}
