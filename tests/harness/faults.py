"""Break a job in every way we know, and measure what is lost: for tests/cluster/test_faults.py and benchmarks/faults.py.

Each fault is real: processes are killed or stopped by signal, nodes leave a Ray cluster of several raylets on this machine, the S3
server answers 503, the disk is a full tmpfs. And none depends on the machine's speed: the training waits at a gate (tests/gates) in
the middle of an epoch until it is hurt.
"""

import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import psutil
from ray.cluster_utils import Cluster

from fmnist.checkpoint import load_state
from tests.gates import FAIR, LIMIT_S, PATH, Gates, wait_until_gone
from tests.harness.s3 import AWS, S3
from tune.space import Space, grid

EPOCHS = 5
MIDDLE = 2.5
"""Where a training waits for its fault: in the middle of the third epoch."""
SPACE: Space = {"model": ["lenet"], "lr": [0.02, 0.05, 0.1]}
HELD_LR: float = grid(SPACE, 0)[-1]["lr"]
"""Of the trial that starts last."""
SEARCH = (
    *("--preset", "demo", "--space", "space.toml", "--searcher", "grid", "--trials", "3", "--retrain-epochs", "1"),
    *("--grace-epochs", str(EPOCHS), "--time-budget", "0", "--base.epochs", str(EPOCHS)),
)
HANG_S = 15
"""RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S of the worker that hangs; 60 by default."""
PATIENCE_S = 12
"""FMNIST_STORAGE_PATIENCE_S of the storage that fails for good; 300 by default."""
QUICK = {"RAY_health_check_period_ms": "1000", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20"}
"""A cluster that counts a node as lost in seconds, and a job that does not wait a minute for workers on it: 3,000 and 60."""
MEMORY = 120_000_000
"""Bytes of each node's object store."""


class Started:
    """A command as a user runs it; what it prints, line by line, with the time."""

    def __init__(
        self, folder: Path, module: str, *arguments: object, prefix: tuple[str, ...] = (), environ: dict[str, str] | None = None
    ) -> None:
        words = [*prefix, sys.executable, "-m", module, *map(str, arguments)]
        base = FAIR | {"PYTHONPATH": PATH, "NO_COLOR": "1", "COLUMNS": "300", "RAY_TMPDIR": str(folder.parent)}
        self.process = subprocess.Popen(
            words,
            cwd=folder,
            env=os.environ | base | (environ or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[tuple[float, str]] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.rstrip()))

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def wait_line(self, pattern: str, after: float = 0.0) -> tuple[float, str]:
        """The first line, printed after a time, that has the pattern: when and what."""

        def found() -> tuple[float, str] | None:
            return next(((when, line) for when, line in list(self.lines) if when >= after and re.search(pattern, line)), None)

        return until(lambda: found() or self.check_runs(pattern), f"a line with {pattern!r}", lambda: self.text)

    def check_runs(self, pattern: str) -> None:
        if self.process.poll() is not None:
            self.reader.join(5)
            ended = next(((when, line) for when, line in self.lines if re.search(pattern, line)), None)
            assert ended is not None, f"it exited {self.process.returncode} without {pattern!r}:\n{self.text}"

    def wait_at(self, gates: Gates, processes: int) -> list[int]:
        """Wait until so many of its processes are at the gate; their numbers."""
        return gates.wait_for(processes, lambda: self.check_runs("a process at the gate"))

    def epochs_done(self, before: float = math.inf) -> int:
        """Of a training: what it has told by then."""
        told = [re.match(r"epoch +(\d+)/", line) for when, line in list(self.lines) if when < before]
        return max((int(found[1]) for found in told if found), default=0)

    def end(self, code: int = 0) -> str:
        """Wait for its end; give all that it printed."""
        try:
            self.process.wait(LIMIT_S)
        finally:
            self.kill()
        self.reader.join(5)
        assert self.process.returncode == code, f"exit {self.process.returncode}, not {code}:\n{self.text}"
        return self.text

    def below(self) -> list[psutil.Process]:
        """All processes that it started, directly or not."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.below():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.kill()


def until(condition: Callable[[], Any], what: str, tell: Callable[[], str] = lambda: "", limit_s: float = LIMIT_S) -> Any:
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {limit_s} s\n{tell()}"
        time.sleep(0.05)
    return value


class Census:
    """Notes every process that comes into being below this one while inside."""

    def __init__(self) -> None:
        self.before = set(psutil.Process().children(recursive=True))
        self.seen: set[psutil.Process] = set()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.over.wait(0.5):
            with suppress(psutil.NoSuchProcess):
                self.seen |= set(psutil.Process().children(recursive=True)) - self.before

    def left(self, wait_s: float) -> list[str]:
        """Those that are still there after so long: what each is, and its command."""
        found: list[str] = []
        for process in psutil.wait_procs(self.seen, timeout=wait_s)[1]:
            with suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} of {process.ppid()}: {' '.join(process.cmdline())}")
        return found

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


@dataclass
class Bench:
    """A folder for everything, and the undisturbed run that others are compared with."""

    folder: Path
    images: int = 20_000
    """Training images of each job."""
    outage_s: float = 60.0
    """The least time for which a storage that comes back is gone; it is gone until the job has said so in any case."""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    """Of every command."""
    reference: dict[str, bytes] = field(default_factory=dict[str, bytes])
    censuses: dict[str, Census] = field(default_factory=dict[str, Census])

    def run_fault(self, name: str) -> "Row":
        """A row of the table; `left_over` comes later."""
        with self.censuses.setdefault(name, Census()):
            return {"fault": name, "what": FAULTS[name].__doc__, **FAULTS[name](self)}

    def start(self, folder: Path, module: str, *arguments: object, gates: Gates | None = None, **how: Any) -> Started:
        """Start a command in a folder, with the gates that a test has for it."""
        environ = self.environment | (gates.environment if gates else {}) | how.pop("environ", {})
        return Started(folder, module, *arguments, environ=environ, **how)

    def training(self, folder: Path, *more: object, workers: object = 2, **how: Any) -> Started:
        """A training by so many workers; 0 is a plain one."""
        module, share = ("cluster.train", ("--workers", workers)) if workers else ("fmnist.train", ())
        data = ("--train-images", self.images, "--validation-images", self.images // 4)
        recipe = ("--recipe", "e-lenet-0.05", "--epochs", EPOCHS, "--global-batch-size", 64)
        return self.start(folder, module, *recipe, *data, *share, "--name", "run", *more, **how)

    def search(self, folder: Path, *more: object, **how: Any) -> Started:
        data = ("--base.train-images", self.images, "--base.validation-images", self.images // 4)
        return self.start(folder, "tune.search", *SEARCH, *data, "--base.global-batch-size", 64, "--name", "run", *more, **how)

    def gates(self, name: str) -> Gates:
        """A gate in the middle of the third epoch, closed."""
        folder = self.folder / f"{name}_gates"
        folder.mkdir()
        gates = Gates(folder)
        gates.close(MIDDLE)
        return gates

    def left_over(self) -> dict[str, list[str]]:
        """Processes of each fault that are still there in two minutes: agents of a killed raylet take one."""
        deadline = time.monotonic() + 120
        return {name: census.left(max(deadline - time.monotonic(), 0)) for name, census in self.censuses.items()}

    def fresh(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def fresh_search(self, name: str) -> Path:
        """A folder from which SEARCH can start."""
        folder = self.fresh(name)
        (folder / "space.toml").write_text("".join(f"{name} = {json.dumps(values)}\n" for name, values in SPACE.items()))
        return folder

    def weights(self, workers: int) -> bytes:
        """Of an undisturbed training by so many workers."""
        name = f"undisturbed{workers}"
        if name not in self.reference:
            folder = self.fresh(name)
            with self.training(folder, workers=workers) as job:
                job.end()
            self.reference[name] = (folder / "runs/run/best/model.safetensors").read_bytes()
        return self.reference[name]

    def same(self, run: Path, workers: int) -> bool:
        return (run / "best/model.safetensors").read_bytes() == self.weights(workers)


@contextmanager
def nodes(*workers: dict[str, Any], environ: dict[str, str], dashboard: bool = False) -> Generator[tuple[Cluster, list[Any]]]:
    """A Ray cluster of several nodes on this machine: a head without CPUs, and the others, in this order."""
    with (
        tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as folder,  # a short path, for Ray's sockets
        patch.dict(os.environ, environ | QUICK, RAY_TMPDIR=folder),
    ):
        Path(folder, "ray").mkdir()  # for the file of the newest cluster's address, which is not to be this machine's
        head = {"num_cpus": 0, "temp_dir": folder, "include_dashboard": dashboard, "object_store_memory": MEMORY}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster, [cluster.add_node(num_cpus=1, object_store_memory=MEMORY, **resources) for resources in workers]
        finally:
            cluster.shutdown()


Row = dict[str, Any]
Fault = Callable[[Bench], Row]
FAULTS: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def recovery(job: Started, at: float, said: str) -> Row:
    """Of a job that goes on by itself: when it noticed, from which epoch it went on, when the next was done."""
    noticed, line = job.wait_line(said, at)
    resumed, going = job.wait_line("going on after epoch", at)
    again = int(re.findall(r"after epoch (\d+)", going)[0])
    finished, _ = job.wait_line(rf"epoch +{again + 1}/", resumed)
    return {
        "said": line,
        "detected_s": round(noticed - at, 1),
        "epochs_lost": max(job.epochs_done(resumed) - again, 0),  # it may have been saved and not yet told
        "recovered_s": round(finished - at, 1),
    }


def hurt_worker(bench: Bench, how: signal.Signals, said: str) -> Row:
    """Send one of two workers a signal in the middle of an epoch."""
    folder, gates = bench.fresh(f"worker_{how.name}"), bench.gates(how.name)
    limit = {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(HANG_S)}
    with bench.training(folder, gates=gates, environ=limit) as job:
        workers = job.wait_at(gates, 2)
        at = time.monotonic()
        psutil.Process(workers[-1]).send_signal(how)
        gates.open()
        row = recovery(job, at, said)
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


def lose_node(bench: Bench, workers: str, said: str, replace: bool) -> tuple[Row, Path]:
    """Remove one of two nodes in the middle of an epoch; give the run folder too."""
    name = f"node_lost_{'replaced' if replace else 'elastic'}"
    runs, gates = bench.fresh(name) / "runs", bench.gates(name)
    with (
        nodes({}, {}, environ=bench.environment | gates.environment) as (cluster, (_, second)),
        bench.training(
            runs.parent, "--address", cluster.address, "--storage", runs, workers=workers, gates=gates, environ=QUICK
        ) as job,
    ):
        job.wait_at(gates, 2)
        at = time.monotonic()
        cluster.remove_node(second, allow_graceful=False)
        gates.open()
        if replace:
            job.wait_line("waiting for room for 2 workers", at)
            cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        row = recovery(job, at, "starting workers anew")
        told = job.end()
    assert said in told, told
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
    with (
        nodes({}, environ=bench.environment | gates.environment) as (cluster, _),
        bench.training(runs.parent, "--address", cluster.address, "--storage", runs, workers="1:2", gates=gates) as job,
    ):
        job.wait_at(gates, 1)
        at = time.monotonic()
        cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        job.wait_line("going on after epoch 2 with 2 workers", at)  # the one that waits at the gate is ended for them
        gates.open()
        row = recovery(job, at, "going on after epoch 2 with 2 workers")
        job.end()
    return row | {"same_weights": None}


@fault
def node_lost_and_replaced(bench: Bench) -> Row:
    """one of two nodes gone, --workers 2; another comes 10 s after the job says that it waits for room"""
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


def resume_training(
    folder: Path, bench: Bench, dead: Started, *changes: object, runs: str = "runs", workers: int = 2, **how: Any
) -> Row:
    """`--resume` of a training that ended."""
    at = time.monotonic()
    with bench.training(folder, "--resume", *changes, workers=workers, **how) as job:
        when, line = job.wait_line(r"epoch +\d/")
        again = int(re.findall(r"epoch +(\d)/", line)[0]) - 1
        job.end()
    same = bench.same(folder / runs / "run", workers)
    return {"epochs_lost": max(dead.epochs_done() - again, 0), "recovered_s": round(when - at, 1), "same_weights": same}


@fault
def head_killed(bench: Bench) -> Row:
    """kill -9 of all that the head runs: GCS, raylet, driver; then --resume on a new cluster, from the storage"""
    folder, storage = bench.fresh("head_killed"), bench.folder / "head_killed_storage"
    gates = bench.gates("head_killed")
    with bench.training(folder, "--storage", storage, gates=gates) as job:
        workers = job.wait_at(gates, 2)
        for process in job.below():
            if process.name() in ("gcs_server", "raylet"):
                process.kill()
        job.kill()
        wait_until_gone(workers)  # at the gate: none can finish the training without its head
    return resume_training(bench.fresh("head_killed_new_head"), bench, job, "--storage", storage, runs=str(storage))


def trial_states(run: Path) -> dict[int, int]:
    """Epochs done, by trial, as saved."""
    found: dict[int, int] = {}
    for path in (run / "search").glob("trial_*/last.pt"):
        with suppress(Exception):  # it is removed as the trial ends
            found[int(path.parent.name.removeprefix("trial_"))] = load_state(path)["epoch"]
    return found


def journal(run: Path) -> list[dict[str, Any]]:
    path = run / "search/trials.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@fault
def trial_node_lost(bench: Bench) -> Row:
    """the node gone that holds the driver of a running DDP trial"""
    folder, gates = bench.fresh_search("trial_node_lost"), bench.gates("trial_node_lost")
    run = folder / "runs/run"
    head = {"resources": {"driver": 1}}
    with nodes(head, {}, {}, environ=bench.environment | gates.environment, dashboard=True) as (cluster, (drivers, *_)):
        arguments = ("--workers-per-trial", 2, "--address", cluster.address, "--storage", folder / "runs", "--trials", 1)
        with bench.search(folder, *arguments, gates=gates, environ=QUICK) as job:
            job.wait_at(gates, 2)
            done, at = trial_states(run)[0], time.monotonic()
            cluster.remove_node(drivers, allow_graceful=False)
            cluster.add_node(num_cpus=1, resources={"driver": 1}, object_store_memory=MEMORY)
            gates.open()
            until(lambda: trial_states(run).get(0, 0) > done or journal(run) or job.check_runs("more"), "more", lambda: job.text)
            recovered = time.monotonic()
            job.end()
    (trial,) = journal(run)
    return {
        "said": "",
        "trials_lost": int(trial["outcome"] != "finished"),
        "epochs_lost": max(done - trial["resumed_after"], 0),
        "recovered_s": round(recovered - at, 1),
        "same_weights": None,
    }


@fault
def search_driver_killed(bench: Bench) -> Row:
    """kill -9 of the driver of a search, some trials done and some running; then --resume from S3 on another machine"""
    folder, gates = bench.fresh_search("search_driver_killed"), bench.gates("search_driver_killed")
    gates.close(MIDDLE, lr=HELD_LR)
    with S3() as s3:
        place = ("--storage", s3.place)
        with bench.search(folder, *place, gates=gates, environ=AWS) as job:
            held = job.wait_at(gates, 1)
            until(lambda: len(s3.journal()) == 2 or job.check_runs("two trials done"), "two trials done, the third in the middle")
            job.kill()
            wait_until_gone(held)
            before, states = s3.journal(), s3.trial_states()
        at, elsewhere = time.monotonic(), bench.fresh("search_elsewhere")
        with bench.search(elsewhere, *place, "--resume", environ=AWS) as job:
            when, _ = job.wait_line(r"^trial ")
            job.end()
    after = {trial["number"]: trial for trial in journal(elsewhere / "runs/run")}
    running = set(states) & set(after) - {trial["number"] for trial in before}  # a done one's state may not be removed yet
    assert [states[number] for number in running] == [int(MIDDLE)]
    return {
        "said": "",
        "trials_lost": sum(after[trial["number"]] != trial for trial in before),
        "epochs_lost": max(states[number] - after[number]["resumed_after"] for number in running),
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
        noticed, said = job.wait_line("the storage does not answer", at)
        time.sleep(max(at + bench.outage_s - time.monotonic(), 0))
        assert job.epochs_done() == int(MIDDLE), "no epoch counts as done before its state is saved"
        s3.failing = False
        finished, _ = job.wait_line(r"epoch +3/", at)
        job.end()
        listed = s3.call("GET", f"/runs?list-type=2&prefix={s3.prefix}/run/best/").decode()
    assert "model.safetensors" in listed, listed
    same = bench.same(folder / "runs/run", 2)
    times = {"detected_s": round(noticed - at, 1), "recovered_s": round(finished - at, 1)}
    restarts = job.text.count("going on after epoch")  # each would cost the epoch in flight
    return {"said": said, "epochs_lost": restarts, "same_weights": same} | times


@fault
def storage_fails_for_good(bench: Bench) -> Row:
    """S3 answers 503 and goes on doing so; later --resume, with nothing left on this machine"""
    folder, gates = bench.fresh("storage_fails_for_good"), bench.gates("storage_fails_for_good")
    patience = AWS | {"FMNIST_STORAGE_PATIENCE_S": str(PATIENCE_S)}
    with S3() as s3:
        with bench.training(folder, "--storage", s3.place, gates=gates, environ=patience) as job:
            job.wait_at(gates, 2)
            at = time.monotonic()
            s3.failing = True
            gates.open()
            said = job.end(1).splitlines()[-1]
            ended = time.monotonic()
        s3.failing = False
        row = resume_training(bench.fresh("storage_fails_elsewhere"), bench, job, "--storage", s3.place, environ=AWS)
    return row | {"said": said, "detected_s": round(ended - at, 1)}


@fault
def disk_full(bench: Bench) -> Row:
    """the folder of --storage is full when a worker saves its second state; then room is made, and --resume"""
    folder = bench.fresh("disk_full")
    script = "mkdir full && mount -t tmpfs -o size=1m none full && head -c 800k /dev/zero > full/big; "
    script += '"$@"; rm full/big; "$@" --resume && cp -r full/run saved'
    inside = ("unshare", "--mount", "sh", "-c", script, "sh")
    with bench.training(folder, "--storage", "full", prefix=inside) as job:
        noticed, said = job.wait_line("error: ")
        when, line = job.wait_line(r"epoch +\d/", noticed)
        job.end()
    again = int(re.findall(r"epoch +(\d)/", line)[0]) - 1
    times = {"detected_s": None, "recovered_s": round(when - noticed, 1)}
    return {"said": said, "epochs_lost": 1 - again, "same_weights": bench.same(folder / "saved", 2)} | times


@fault
def interrupted(bench: Bench) -> Row:
    """Ctrl-C; then --resume"""
    folder, gates = bench.fresh("interrupted"), bench.gates("interrupted")
    with bench.training(folder, gates=gates) as job:
        job.wait_at(gates, 2)
        at = time.monotonic()
        job.process.send_signal(signal.SIGINT)
        said = job.end(130).splitlines()[-1]
        ended = time.monotonic()
    return resume_training(folder, bench, job) | {"said": said, "detected_s": round(ended - at, 1)}


@fault
def interrupted_twice(bench: Bench) -> Row:
    """Ctrl-C twice, the second while the first cannot end the job, since Ray's raylet is stopped; then --resume"""
    folder, gates = bench.fresh("interrupted_twice"), bench.gates("interrupted_twice")
    with bench.training(folder, gates=gates) as job:
        workers = job.wait_at(gates, 2)
        (raylet,) = [process for process in job.below() if process.name() == "raylet"]
        raylet.suspend()
        at, pressed = time.monotonic(), 0
        while job.process.poll() is None and time.monotonic() < at + LIMIT_S:
            job.process.send_signal(signal.SIGINT)  # two that come before the first is handled are one
            pressed += 1
            with suppress(subprocess.TimeoutExpired):
                job.process.wait(0.5)
        ended = time.monotonic()
        assert pressed >= 2
        job.end(130)
        raylet.resume()
        wait_until_gone([raylet.pid, *workers])
    return resume_training(folder, bench, job) | {"detected_s": round(ended - at, 1)}


WRITER = """
import sys, torch
from cluster.storage import StateFile
for number in range(10**9):
    StateFile(sys.argv[1]).save({"epoch": number, "weights": torch.full((1_000_000,), float(number))})
    print(number, flush=True)
"""


@fault
def torn_checkpoint(bench: Bench) -> Row:
    """kill -9 of a process that is writing its state, ten times over"""
    folder = bench.fresh("torn_checkpoint")
    state, lost = folder / "last.pt", 0
    for kill in range(10):
        words = [sys.executable, "-c", WRITER, str(state)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": PATH}) as writer:
            assert writer.stdout is not None
            last = max(int(writer.stdout.readline()) for _ in range(3))
            time.sleep(0.003 * kill)
            writer.kill()
            rest = writer.stdout.read().split()
        last = int(rest[-1]) if rest else last
        found = load_state(state)
        assert found["weights"].eq(float(found["epoch"])).all()
        lost = max(lost, last - found["epoch"])
    return {"said": "", "epochs_lost": lost, "same_weights": None}
