"""Break a job in every way we know, and measure what is lost: for tests/cluster/test_faults.py and
benchmarks/faults.py.

Each fault is real: processes are killed or stopped by signal, nodes leave a Ray cluster of several
raylets on this machine, the S3 server answers 503, the disk is a full tmpfs. And none depends on
the machine's speed: the training waits at a gate (tests/gates) in the middle of an epoch until it
is hurt.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from fmnist.training.checkpoint import load_state
from tests.gates import LIMIT_S, PATH, wait_until_gone
from tests.harness.bench import HELD_LR, MIDDLE, QUICK, Bench, add_node, nodes
from tests.harness.commands import Census, Command, until
from tests.harness.s3 import AWS, S3

HANG_S = 15
"""RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S of the worker that hangs; 60 by default."""
PATIENCE_S = 12
"""FMNIST_STORAGE_PATIENCE_S of the storage that fails for good; 300 by default."""
WRITER = """
import sys, torch
from cluster.storage import StateFile
for number in range(10**9):
    weights = torch.full((1_000_000,), float(number))
    StateFile(sys.argv[1]).save({"epoch": number, "weights": weights})
    print(number, flush=True)
"""
"""A process that saves states until it is killed."""

Row = dict[str, Any]
Fault = Callable[[Bench], Row]
FAULTS: dict[str, Fault] = {}
"""Faults by name; the docstring says what happens."""


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def run_fault(name: str, bench: Bench) -> Row:
    """A row of the table; how many processes are left over comes later."""
    what = " ".join((FAULTS[name].__doc__ or "").split())
    with bench.censuses.setdefault(name, Census()):
        return {"fault": name, "what": what, **FAULTS[name](bench)}


def recovery(job: Command, at: float, notice: str) -> Row:
    """Measure a job that goes on by itself: when it notices, from which epoch it goes on, when the
    next is done."""
    noticed, line = job.wait_line(notice, at)
    resumed, going_on = job.wait_line("going on after epoch", at)
    again = int(re.findall(r"after epoch (\d+)", going_on)[0])
    finished, _ = job.wait_line(rf"epoch +{again + 1}/", resumed)

    return {
        "said": line,
        "detected_s": round(noticed - at, 1),
        # An epoch may have been saved and not printed yet.
        "epochs_lost": max(job.epochs_done(resumed) - again, 0),
        "recovered_s": round(finished - at, 1),
    }


def resume_training(
    folder: Path,
    bench: Bench,
    dead: Command,
    *changes: object,
    runs: str = "runs",
    workers: int = 2,
    **how: Any,
) -> Row:
    """Run `--resume` of a training that ended."""
    at = time.monotonic()
    with bench.training(folder, "--resume", *changes, workers=workers, **how) as job:
        when, line = job.wait_line(r"epoch +\d/")
        job.end()

    same = bench.same(folder / runs / "run", workers)
    return {
        "epochs_lost": max(dead.epochs_done() - epochs_before(line), 0),
        "recovered_s": round(when - at, 1),
        "same_weights": same,
    }


def epochs_before(line: str) -> int:
    """Epochs that were done before the one that a line tells of."""
    return int(re.findall(r"epoch +(\d)/", line)[0]) - 1


def hurt_worker(bench: Bench, how: signal.Signals, notice: str) -> Row:
    """Send one of two workers a signal in the middle of an epoch."""
    folder, gates = bench.fresh(f"worker_{how.name}"), bench.gates(how.name)
    limit = {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(HANG_S)}
    with bench.training(folder, gates=gates, environ=limit) as job:
        workers = job.wait_at(gates, 2)
        at = time.monotonic()
        # The other one must notice, wherever it waits for its peer.
        psutil.Process(workers[-1]).send_signal(how)
        gates.open()
        row = recovery(job, at, notice)
        job.end()

    return row | {"same_weights": bench.same(folder / "runs/run", 2)}


@fault
def worker_killed(bench: Bench) -> Row:
    """kill -9 of one of two workers in the middle of an epoch"""
    return hurt_worker(bench, signal.SIGKILL, "starting workers anew")


@fault
def worker_hangs(bench: Bench) -> Row:
    """SIGSTOP of one of two workers: it neither answers nor dies"""
    return hurt_worker(bench, signal.SIGSTOP, "has not answered for")


def lose_node(bench: Bench, workers: str, going_on: str, replace: bool) -> tuple[Row, Path]:
    """Remove one of two nodes in the middle of an epoch; give the run folder too."""
    name = f"node_lost_{'replaced' if replace else 'elastic'}"
    runs, gates = bench.fresh(name) / "runs", bench.gates(name)
    environ = bench.environment | gates.environment
    with nodes({}, {}, environ=environ) as (cluster, (_, second)):
        place = ("--address", cluster.address, "--storage", runs)
        with bench.training(
            runs.parent, *place, workers=workers, gates=gates, environ=QUICK
        ) as job:
            job.wait_at(gates, 2)
            at = time.monotonic()
            cluster.remove_node(second, allow_graceful=False)
            gates.open()
            if replace:
                job.wait_line("waiting for room for 2 workers", at)
                add_node(cluster)

            row = recovery(job, at, "starting workers anew")
            text = job.end()

    assert going_on in text, text
    return row, runs / "run"


@fault
def node_lost_elastic(bench: Bench) -> Row:
    """one of two nodes gone, --workers 1:2"""
    row, _ = lose_node(bench, "1:2", "with 1 worker", replace=False)
    return row | {"same_weights": None}


@fault
def node_comes(bench: Bench) -> Row:
    """not a fault: a second node comes while one worker trains, --workers 1:2"""
    runs, gates = bench.fresh("node_comes") / "runs", bench.gates("node_comes")
    going_on = "going on after epoch 2 with 2 workers"
    with nodes({}, environ=bench.environment | gates.environment) as (cluster, _):
        place = ("--address", cluster.address, "--storage", runs)
        with bench.training(runs.parent, *place, workers="1:2", gates=gates) as job:
            job.wait_at(gates, 1)
            at = time.monotonic()
            add_node(cluster)
            # The worker that waits at the gate is ended for the two.
            job.wait_line(going_on, at)
            gates.open()
            row = recovery(job, at, going_on)
            job.end()

    return row | {"same_weights": None}


@fault
def node_lost_and_replaced(bench: Bench) -> Row:
    """one of two nodes gone, --workers 2; another comes 10 s after the job says that it waits
    for room"""
    row, run = lose_node(bench, "2", "with 2 workers", replace=True)
    return row | {"same_weights": bench.same(run, 2)}


@fault
def plain_training_killed(bench: Bench) -> Row:
    """kill -9 of fmnist.train, which has no Ray; then --resume"""
    folder, gates = bench.fresh("plain_training_killed"), bench.gates("plain_training_killed")
    with bench.training(folder, workers=0, gates=gates) as job:
        job.wait_at(gates, 1)
        job.kill()
    return resume_training(folder, bench, job, workers=0)


@fault
def training_driver_killed(bench: Bench) -> Row:
    """kill -9 of the driver of a training; then --resume"""
    folder, gates = bench.fresh("training_driver_killed"), bench.gates("training_driver_killed")
    with bench.training(folder, gates=gates) as job:
        workers = job.wait_at(gates, 2)
        job.kill()
        wait_until_gone(workers)

    return resume_training(folder, bench, job)


@fault
def head_killed(bench: Bench) -> Row:
    """kill -9 of all that the head runs: GCS, raylet, driver; then --resume on a new cluster,
    from the storage"""
    folder, storage = bench.fresh("head_killed"), bench.folder / "head_killed_storage"
    gates = bench.gates("head_killed")
    with bench.training(folder, "--storage", storage, gates=gates) as job:
        workers = job.wait_at(gates, 2)
        for process in job.below():
            if process.name() in ("gcs_server", "raylet"):
                process.kill()
        job.kill()
        # They are at the gate: none can finish the training without its head.
        wait_until_gone(workers)

    new_head = bench.fresh("head_killed_new_head")
    return resume_training(new_head, bench, job, "--storage", storage, runs=str(storage))


def trial_states(run: Path) -> dict[int, int]:
    """Epochs done, by trial, as saved."""
    epochs: dict[int, int] = {}
    for path in (run / "search").glob("trial_*/last.pt"):
        # It is removed as the trial ends.
        with suppress(Exception):
            number = int(path.parent.name.removeprefix("trial_"))
            epochs[number] = load_state(path)["epoch"]

    return epochs


def done_trials(run: Path) -> list[dict[str, Any]]:
    """Trials of a search that are done, none before the file is there."""
    path = run / "search/trials.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


@fault
def trial_node_lost(bench: Bench) -> Row:
    """the node gone that holds the driver of a running DDP trial"""
    folder, gates = bench.fresh_search("trial_node_lost"), bench.gates("trial_node_lost")
    run, driver = folder / "runs/run", {"resources": {"driver": 1}}
    environ = bench.environment | gates.environment
    with nodes(driver, {}, {}, environ=environ, dashboard=True) as (cluster, (drivers, *_)):
        place = ("--address", cluster.address, "--storage", folder / "runs")
        arguments = ("--workers-per-trial", 2, *place, "--trials", 1)
        with bench.search(folder, *arguments, gates=gates, environ=QUICK) as job:
            job.wait_at(gates, 2)
            # The trial's driver and its two workers are on nodes of their own.
            done, at = trial_states(run)[0], time.monotonic()
            cluster.remove_node(drivers, allow_graceful=False)
            add_node(cluster, **driver)
            gates.open()

            def more_is_done() -> bool:
                if trial_states(run).get(0, 0) > done or done_trials(run):
                    return True
                job.check_runs("one more epoch")
                return False

            until(more_is_done, "one more epoch", lambda: job.text)
            recovered = time.monotonic()
            job.end()

    (trial,) = done_trials(run)
    return {
        "said": "",
        "trials_lost": int(trial["outcome"] != "finished"),
        "epochs_lost": max(done - trial["resumed_after"], 0),
        "recovered_s": round(recovered - at, 1),
        "same_weights": None,
    }


@fault
def search_driver_killed(bench: Bench) -> Row:
    """kill -9 of the driver of a search, some trials done and some running; then --resume from
    S3 on another machine"""
    folder, gates = bench.fresh_search("search_driver_killed"), bench.gates("search_driver_killed")
    gates.close(MIDDLE, lr=HELD_LR)
    with S3() as s3:
        place = ("--storage", s3.place)
        with bench.search(folder, *place, gates=gates, environ=AWS) as job:

            def two_are_done() -> bool:
                if len(s3.done_trials()) == 2:
                    return True
                job.check_runs("two trials done")
                return False

            held = job.wait_at(gates, 1)
            until(two_are_done, "two trials done, the third in the middle")
            job.kill()
            wait_until_gone(held)
            before, states = s3.done_trials(), s3.trial_states()

        at, elsewhere = time.monotonic(), bench.fresh("search_elsewhere")
        with bench.search(elsewhere, *place, "--resume", environ=AWS) as job:
            when, _ = job.wait_line(r"^trial ")
            job.end()

    after = {trial["number"]: trial for trial in done_trials(elsewhere / "runs/run")}
    # The state of a trial that is done may not be removed yet.
    running = (states.keys() & after.keys()) - {trial["number"] for trial in before}
    assert [states[number] for number in running] == [int(MIDDLE)]
    lost = [states[number] - after[number]["resumed_after"] for number in running]

    return {
        "said": "",
        "trials_lost": sum(after[trial["number"]] != trial for trial in before),
        "epochs_lost": max(lost),
        "recovered_s": round(when - at, 1),
        "same_weights": None,
    }


@fault
def storage_fails_a_minute(bench: Bench) -> Row:
    """S3 answers 503 for a minute"""
    folder, gates = bench.fresh("storage_fails_a_minute"), bench.gates("storage_fails_a_minute")
    with (
        S3() as s3,
        bench.training(folder, "--storage", s3.place, gates=gates, environ=AWS) as job,
    ):
        job.wait_at(gates, 2)
        at = time.monotonic()
        s3.failing = True
        gates.open()
        noticed, line = job.wait_line("the storage does not answer", at)
        time.sleep(max(at + bench.outage_s - time.monotonic(), 0))
        done = job.epochs_done()
        assert done == int(MIDDLE), "no epoch counts as done before its state is saved"
        s3.failing = False
        finished, _ = job.wait_line(r"epoch +3/", at)
        job.end()
        uploaded = s3.call("GET", f"/runs?list-type=2&prefix={s3.prefix}/run/best/").decode()

    assert "model.safetensors" in uploaded, uploaded
    return {
        "said": line,
        # Each restart would cost the epoch in flight.
        "epochs_lost": job.text.count("going on after epoch"),
        "same_weights": bench.same(folder / "runs/run", 2),
        "detected_s": round(noticed - at, 1),
        "recovered_s": round(finished - at, 1),
    }


@fault
def storage_fails_for_good(bench: Bench) -> Row:
    """S3 answers 503 and goes on doing so; later --resume, with nothing left on this machine"""
    folder, gates = bench.fresh("storage_fails_for_good"), bench.gates("storage_fails_for_good")
    patience = AWS | {"FMNIST_STORAGE_PATIENCE_S": str(PATIENCE_S)}
    with S3() as s3:
        place = ("--storage", s3.place)
        with bench.training(folder, *place, gates=gates, environ=patience) as job:
            job.wait_at(gates, 2)
            at = time.monotonic()
            s3.failing = True
            gates.open()
            message = job.end(1).splitlines()[-1]
            ended = time.monotonic()

        s3.failing = False
        elsewhere = bench.fresh("storage_fails_elsewhere")
        row = resume_training(elsewhere, bench, job, *place, environ=AWS)

    return row | {"said": message, "detected_s": round(ended - at, 1)}


@fault
def disk_full(bench: Bench) -> Row:
    """the folder of --storage is full when a worker saves its second state; then room is made,
    and --resume"""
    folder = bench.fresh("disk_full")
    # 800 kB of 1 MB are taken: one state fits, two do not.
    script = (
        "mkdir full && mount -t tmpfs -o size=1m none full && head -c 800k /dev/zero > full/big; "
        '"$@"; rm full/big; "$@" --resume && cp -r full/run saved'
    )
    inside = ("unshare", "--mount", "sh", "-c", script, "sh")

    with bench.training(folder, "--storage", "full", prefix=inside) as job:
        noticed, message = job.wait_line("error: ")
        when, line = job.wait_line(r"epoch +\d/", noticed)
        job.end()

    return {
        "said": message,
        "epochs_lost": 1 - epochs_before(line),
        "same_weights": bench.same(folder / "saved", 2),
        "detected_s": None,
        "recovered_s": round(when - noticed, 1),
    }


@fault
def interrupted(bench: Bench) -> Row:
    """Ctrl-C; then --resume"""
    folder, gates = bench.fresh("interrupted"), bench.gates("interrupted")
    with bench.training(folder, gates=gates) as job:
        job.wait_at(gates, 2)
        at = time.monotonic()
        job.process.send_signal(signal.SIGINT)
        message = job.end(130).splitlines()[-1]
        ended = time.monotonic()

    row = resume_training(folder, bench, job)
    return row | {"said": message, "detected_s": round(ended - at, 1)}


@fault
def interrupted_twice(bench: Bench) -> Row:
    """Ctrl-C twice, the second while the first cannot end the job, since Ray's raylet is
    stopped; then --resume"""
    folder, gates = bench.fresh("interrupted_twice"), bench.gates("interrupted_twice")
    with bench.training(folder, gates=gates) as job:
        workers = job.wait_at(gates, 2)
        (raylet,) = [process for process in job.below() if process.name() == "raylet"]
        # A stopped raylet answers nobody, so the job cannot close Ray in order.
        raylet.suspend()
        at = time.monotonic()
        pressed = 0

        while job.process.poll() is None and time.monotonic() < at + LIMIT_S:
            # Two that come before the first is handled are one.
            job.process.send_signal(signal.SIGINT)
            pressed += 1
            with suppress(subprocess.TimeoutExpired):
                job.process.wait(0.5)

        ended = time.monotonic()
        assert pressed >= 2
        job.end(130)
        raylet.resume()
        wait_until_gone([raylet.pid, *workers])

    return resume_training(folder, bench, job) | {"detected_s": round(ended - at, 1)}


@fault
def torn_checkpoint(bench: Bench) -> Row:
    """kill -9 of a process that is writing its state, ten times over"""
    state = bench.fresh("torn_checkpoint") / "last.pt"
    words = [sys.executable, "-c", WRITER, str(state)]
    environ = os.environ | {"PYTHONPATH": PATH}
    lost = 0

    for kill in range(10):
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environ) as writer:
            assert writer.stdout is not None
            saved = [int(writer.stdout.readline()) for _ in range(3)]
            # At another moment of the writing each time.
            time.sleep(0.003 * kill)
            writer.kill()
            saved += [int(number) for number in writer.stdout.read().split()]

        loaded = load_state(state)
        assert loaded["weights"].eq(float(loaded["epoch"])).all()
        lost = max(lost, saved[-1] - loaded["epoch"])

    return {"said": "", "epochs_lost": lost, "same_weights": None}
