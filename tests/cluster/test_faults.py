"""Everything that may die, killed for real in the middle of an epoch: tests/harness/faults.py
does it and says what was lost."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import IMAGES, NETWORK
from tests.harness.bench import Bench
from tests.harness.faults import FAULTS, HANG_S, PATIENCE_S, run_fault

SAID = {
    "worker_killed": "starting workers anew",
    "worker_hangs": f"has not answered for {HANG_S} s",
    "node_lost_elastic": "starting workers anew",
    "node_lost_and_replaced": "starting workers anew",
    "storage_fails_a_minute": "the storage does not answer",
    "storage_fails_for_good": f"the storage failed for {PATIENCE_S} s",
    "disk_full": (
        "the disk is full; make room. What is done is kept; go on with: python -m cluster.train"
    ),
    "interrupted": (
        "What is done is kept; go on with: python -m cluster.train --recipe e-lenet-0.05"
    ),
}


@pytest.fixture(scope="module")
def bench(small_data: Path) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as folder:
        yield (
            bench := Bench(
                Path(folder),
                IMAGES,
                outage_s=0.0,
                environment={"FMNIST_DATA": str(small_data)} | NETWORK,
            )
        )
    # After all of them, in whichever order they came: what Ray leaves behind may take a minute to
    # go.
    assert bench.left_over() == {name: [] for name in bench.censuses}


@pytest.mark.full
@pytest.mark.processes
@pytest.mark.cluster
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", FAULTS)
def test_no_trial_and_no_whole_epoch_is_lost(name: str, bench: Bench) -> None:
    row = run_fault(name, bench)
    assert row["epochs_lost"] == 0
    assert row.get("trials_lost", 0) == 0
    assert row["same_weights"] is not False
    assert SAID.get(name, "") in row.get("said", "")
