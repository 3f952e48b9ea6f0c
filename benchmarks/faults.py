"""`python -m benchmarks.faults`: break a job in every way we know, and measure what is lost; docs/results/faults.md, .json.

Each fault is real: processes are killed or stopped by signal, nodes leave a Ray cluster of several raylets on this machine, the S3
server answers 503, the disk is a full tmpfs. tests/cluster/test_faults.py runs the same functions.
"""

import io
import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import psutil
import torch
from ray.cluster_utils import Cluster
from rich.console import Console

from fmnist.checkpoint import load_state
from fmnist.cli import command
from fmnist.errors import one_of
from fmnist.run import environment, write_atomic, write_json

RESULTS = Path("docs/results")
ROOT = Path(__file__).parent.parent
EPOCHS = 5
TRAIN = ("--recipe", "e-lenet-0.05", "--train-images", "20000", "--validation-images", "1000", "--epochs", str(EPOCHS))
SEARCH = (
    *("--preset", "demo", "--space", "space.toml", "--trials", "3", "--retrain-epochs", "1", "--grace-epochs", "6"),
    *("--time-budget", "0", "--base.train-images", "20000", "--base.validation-images", "1000", "--base.epochs", "6"),
)
SPACE = 'model = ["lenet"]\nlr = { low = 0.02, high = 0.1 }\n'
"""Of the search, in its first folder alone: who resumes it elsewhere has no such file."""
LIMIT_S = 400.0
HANG_S = 15
"""RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S of the worker that hangs; 60 by default."""
PATIENCE_S = 12
"""FMNIST_STORAGE_PATIENCE_S of the storage that fails for good; 300 by default."""
OUTAGE_S = 60.0
MEMORY = 120_000_000
"""Bytes of each node's object store."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Break a job in every way we know, and measure what is lost."""

    only: str | None = None
    """One fault; its row replaces the old one."""


class Started:
    """A command as a user runs it; what it prints, line by line, with the time."""

    def __init__(
        self, folder: Path, module: str, *arguments: object, prefix: tuple[str, ...] = (), environ: dict[str, str] | None = None
    ) -> None:
        words = [*prefix, sys.executable, "-m", module, *map(str, arguments)]
        base = {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "300", "RAY_TMPDIR": str(folder.parent)}
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


def workers_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Ray Train's workers among them, that train."""
    found: list[psutil.Process] = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found


def mid_epoch(job: Started, after_epoch: int) -> float:
    """Sleep until the middle of the epoch that follows; the time then."""
    _, line = job.wait_line(rf"epoch +{after_epoch}/")
    seconds = float(line.rsplit(maxsplit=2)[1])
    time.sleep(seconds / 2)
    return time.monotonic()


def training(folder: Path, *more: object, workers: object = 2, **how: Any) -> Started:
    """By so many workers; 0 is a plain training."""
    module, share = ("cluster.train", ("--workers", workers)) if workers else ("fmnist.train", ())
    return Started(folder, module, *TRAIN, *share, "--name", "run", *more, **how)


@dataclass
class Bench:
    """A folder for everything, and the undisturbed run that others are compared with."""

    folder: Path
    reference: dict[str, bytes] = field(default_factory=dict[str, bytes])
    censuses: dict[str, Census] = field(default_factory=dict[str, Census])

    def suffer(self, name: str) -> "Row":
        """A row of the table; `left_over` comes later."""
        with self.censuses.setdefault(name, Census()):
            return {"fault": name, "what": FAULTS[name].__doc__, **FAULTS[name](self)}

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
        (folder / "space.toml").write_text(SPACE)
        return folder

    def weights(self, workers: int) -> bytes:
        """Of an undisturbed training by so many workers."""
        name = f"undisturbed{workers}"
        if name not in self.reference:
            folder = self.fresh(name)
            with training(folder, workers=workers) as job:
                job.end()
            self.reference[name] = (folder / "runs/run/best/model.safetensors").read_bytes()
        return self.reference[name]

    def same(self, run: Path, workers: int) -> bool:
        return (run / "best/model.safetensors").read_bytes() == self.weights(workers)


@contextmanager
def nodes(*workers: dict[str, Any], dashboard: bool = False) -> Generator[tuple[Cluster, list[Any]]]:
    """A Ray cluster of several nodes on this machine: a head without CPUs, and the others, in this order."""
    with (
        tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as folder,  # a short path, for Ray's sockets
        patch.dict(os.environ, PYTHONPATH=str(ROOT), RAY_TMPDIR=folder),
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
    folder = bench.fresh(f"worker_{how.name}")
    limit = {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(HANG_S)}
    with training(folder, environ=limit) as job:
        at = mid_epoch(job, 2)
        workers_of(job.below())[-1].send_signal(how)
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
    runs = bench.fresh(f"node_lost_{'replaced' if replace else 'elastic'}") / "runs"
    with (
        nodes({}, {}) as (cluster, (_, second)),
        training(runs.parent, "--address", cluster.address, "--storage", runs, workers=workers) as job,
    ):
        at = mid_epoch(job, 2)
        cluster.remove_node(second, allow_graceful=False)
        if replace:
            job.wait_line("waiting for room for 2 workers", at)
            time.sleep(10)
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
    runs = bench.fresh("node_comes") / "runs"
    with (
        nodes({}) as (cluster, _),
        training(runs.parent, "--address", cluster.address, "--storage", runs, "--epochs", 40, workers="1:2") as job,
    ):
        mid_epoch(job, 2)
        cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        row = recovery(job, time.monotonic(), "going on after epoch .* with 2 workers")
        job.kill()
    return row | {"same_weights": None}


@fault
def node_lost_and_replaced(bench: Bench) -> Row:
    """one of two nodes gone, --workers 2; another comes 10 s after the job says that it waits for room"""
    row, run = lose_node(bench, "2", "with 2 workers", replace=True)
    return row | {"same_weights": bench.same(run, 2)}


@fault
def plain_training_killed(bench: Bench) -> Row:
    """kill -9 of fmnist.train, which has no Ray; then --resume"""
    folder = bench.fresh("plain_training_killed")
    with training(folder, workers=0) as job:
        mid_epoch(job, 2)
        job.kill()
    return resume_training(folder, bench, job, workers=0)


@fault
def training_driver_killed(bench: Bench) -> Row:
    """kill -9 of the driver of a training; then --resume"""
    folder = bench.fresh("training_driver_killed")
    with training(folder) as job:
        mid_epoch(job, 2)
        job.kill()
    return resume_training(folder, bench, job)


def resume_training(
    folder: Path, bench: Bench, dead: Started, *changes: object, runs: str = "runs", workers: int = 2, **how: Any
) -> Row:
    """`--resume` of a training that ended."""
    at = time.monotonic()
    with training(folder, "--resume", *changes, workers=workers, **how) as job:
        when, line = job.wait_line(r"epoch +\d/")
        again = int(re.findall(r"epoch +(\d)/", line)[0]) - 1
        job.end()
    same = bench.same(folder / runs / "run", workers)
    return {"epochs_lost": max(dead.epochs_done() - again, 0), "recovered_s": round(when - at, 1), "same_weights": same}


@fault
def head_killed(bench: Bench) -> Row:
    """kill -9 of all that the head runs: GCS, raylet, driver; then --resume on a new cluster, from the storage"""
    folder, storage = bench.fresh("head_killed"), bench.folder / "head_killed_storage"
    with training(folder, "--storage", storage) as job:
        mid_epoch(job, 2)
        for process in job.below():
            if process.name() in ("gcs_server", "raylet"):
                process.kill()
        job.kill()  # at once: given seconds, the workers would have finished the training without their head
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
    folder = bench.fresh_search("trial_node_lost")
    run = folder / "runs/run"
    with nodes({"resources": {"driver": 1}}, {}, {}, dashboard=True) as (cluster, (drivers, *_)):
        arguments = (*SEARCH, "--workers-per-trial", 2, "--address", cluster.address, "--storage", folder / "runs", "--name", "run")
        with Started(folder, "tune.search", *arguments, "--trials", 1) as job:
            until(lambda: trial_states(run).get(0, 0) >= 2 or job.check_runs("epoch 2"), "the trial at epoch 2", lambda: job.text)
            done, at = trial_states(run)[0], time.monotonic()
            cluster.remove_node(drivers, allow_graceful=False)
            cluster.add_node(num_cpus=1, resources={"driver": 1}, object_store_memory=MEMORY)
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


class S3:
    """moto's S3 server, which can be made to answer 503."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        inner = DomainDispatcherApplication(create_backend_app)
        self.failing = False

        def app(environ: Any, start_response: Any) -> Any:
            if self.failing:
                start_response("503 Slow Down", [("Content-Type", "text/plain")])
                return [b"slow down"]
            return inner(environ, start_response)

        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.prefix = f"fmnist{self.server.server_port}"  # the process has one S3, whatever the number of servers
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.call("PUT", "/runs")

    def call(self, method: str, path: str) -> bytes:
        import http.client

        connection = http.client.HTTPConnection(self.address, timeout=20)
        connection.request(
            method, path, headers={"Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request"}
        )
        return connection.getresponse().read()

    def journal(self) -> list[dict[str, Any]]:
        """Trials of the search that are done, as far as the bucket knows."""
        found = self.call("GET", f"/runs/{self.prefix}/run/search/trials.jsonl")
        return [] if found.startswith(b"<") else [json.loads(line) for line in found.splitlines()]

    def trial_states(self) -> dict[int, int]:
        """Epochs done, by trial, as saved in the bucket."""
        listed = self.call("GET", f"/runs?list-type=2&prefix={self.prefix}/run/search/trial_").decode()
        found: dict[int, int] = {}
        for key, number in re.findall(r"<Key>(\S*?/trial_(\d+)/last\.pt)</Key>", listed):
            with suppress(Exception):  # it is removed as the trial ends
                found[int(number)] = torch.load(io.BytesIO(self.call("GET", f"/runs/{key}")), weights_only=True)["epoch"]
        return found

    @property
    def place(self) -> str:
        return f"s3://runs/{self.prefix}?region=us-east-1&scheme=http&endpoint_override={self.address}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()


AWS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}


@fault
def search_driver_killed(bench: Bench) -> Row:
    """kill -9 of the driver of a search, some trials done and some running; then --resume from S3 on another machine"""
    folder = bench.fresh_search("search_driver_killed")
    with S3() as s3:
        place = ("--storage", s3.place)
        with Started(folder, "tune.search", *SEARCH, *place, "--name", "run", environ=AWS) as job:
            until(
                lambda: (s3.journal() and max(s3.trial_states().values(), default=0) >= 2) or job.check_runs("a trial done"),
                "a trial done, another at epoch 2",
            )
            job.kill()
            before, states = s3.journal(), s3.trial_states()
        at, elsewhere = time.monotonic(), bench.fresh("search_elsewhere")
        with Started(elsewhere, "tune.search", *place, "--name", "run", "--resume", environ=AWS) as job:
            when, _ = job.wait_line(r"^trial ")
            job.end()
    after = {trial["number"]: trial for trial in journal(elsewhere / "runs/run")}
    running = set(states) & set(after) - {trial["number"] for trial in before}  # a done one's state may not be removed yet
    again = [states[number] - after[number]["resumed_after"] for number in running]
    return {
        "said": "",
        "trials_lost": sum(after[trial["number"]] != trial for trial in before),
        "epochs_lost": max([0, *again]),  # below 0: its worker saved once more after the kill
        "recovered_s": round(when - at, 1),
        "same_weights": None,
    }


@fault
def storage_fails_a_minute(bench: Bench) -> Row:
    """S3 answers 503 for a minute"""
    folder = bench.fresh("storage_fails_a_minute")
    with (
        S3() as s3,
        training(folder, "--storage", s3.place, environ=AWS) as job,
    ):
        at = mid_epoch(job, 2)
        s3.failing = True
        noticed, said = job.wait_line("the storage does not answer", at)
        time.sleep(max(at + OUTAGE_S - time.monotonic(), 0))
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
    folder = bench.fresh("storage_fails_for_good")
    patience = AWS | {"FMNIST_STORAGE_PATIENCE_S": str(PATIENCE_S)}
    with S3() as s3:
        with training(folder, "--storage", s3.place, environ=patience) as job:
            at = mid_epoch(job, 2)
            s3.failing = True
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
    with training(folder, "--storage", "full", prefix=inside) as job:
        noticed, said = job.wait_line("error: ")
        when, line = job.wait_line(r"epoch +\d/", noticed)
        job.end()
    again = int(re.findall(r"epoch +(\d)/", line)[0]) - 1
    times = {"detected_s": None, "recovered_s": round(when - noticed, 1)}
    return {"said": said, "epochs_lost": 1 - again, "same_weights": bench.same(folder / "saved", 2)} | times


@fault
def interrupted(bench: Bench) -> Row:
    """Ctrl-C; then --resume"""
    folder = bench.fresh("interrupted")
    with training(folder) as job:
        at = mid_epoch(job, 2)
        job.process.send_signal(signal.SIGINT)
        said = job.end(130).splitlines()[-1]
        ended = time.monotonic()
    return resume_training(folder, bench, job) | {"said": said, "detected_s": round(ended - at, 1)}


@fault
def interrupted_twice(bench: Bench) -> Row:
    """Ctrl-C twice, half a second apart; then --resume"""
    folder = bench.fresh("interrupted_twice")
    with training(folder) as job:
        at = mid_epoch(job, 2)
        job.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        job.process.send_signal(signal.SIGINT)
        job.end(130)
        ended = time.monotonic()
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
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}) as writer:
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


HEADINGS = ("fault", "detected in", "epochs lost", "trials lost", "recovered in", "left over", "weights as undisturbed", "it says")


def table(rows: list[Row]) -> Iterator[str]:
    yield "| " + " | ".join(HEADINGS) + " |"
    yield "|" + "---|" * len(HEADINGS)
    for row in rows:
        detected, recovered = (f"{row[key]:g} s" if row.get(key) is not None else "" for key in ("detected_s", "recovered_s"))
        same = {True: "yes", False: "NO", None: ""}[row["same_weights"]]
        said = re.sub(r"/\S*/", "", row.get("said", "")).replace("|", "/")
        cells = (row["what"], detected, row["epochs_lost"], row.get("trials_lost", ""), recovered, row["left_over"], same, said)
        yield "| " + " | ".join(map(str, cells)) + " |"


def main(options: Options) -> None:
    if options.only is not None:
        one_of("only", options.only, FAULTS)
    path = RESULTS / "faults.json"
    old = {row["fault"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    console = Console(highlight=False, soft_wrap=True)
    versions = environment()["versions"]
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as name:
        bench = Bench(Path(name))
        for key, function in FAULTS.items():
            if options.only in (None, key):
                console.print(f"{key}: {function.__doc__}")
                old[key] = bench.suffer(key) | {name: versions[name] for name in ("ray", "torch")}
                write_json(path, [old[key] for key in FAULTS if key in old])
        for key, left in bench.left_over().items():
            old[key]["left_over"] = len(left)
    rows = [old[key] for key in FAULTS if key in old]
    write_json(path, rows)
    lines = [
        "# When things die",
        "",
        f"`python -m benchmarks.faults`: torch {versions['torch']}, ray {versions['ray']}, Python {versions['python']}, 2 threads.",
        f"The job: LeNet, {EPOCHS} epochs of 20,000 images by two workers, or a search of three trials of it.",
        "",
        "- Detected: from the fault to the line that tells the user.",
        "- Epochs lost: whole ones that had to be trained again; the one in flight is lost besides.",
        "- Recovered: from the fault, or from `--resume`, to the end of the next epoch; most of it is Ray's own start-up.",
        f"- A worker that hangs is noticed after RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S, {HANG_S} here and 60 by default.",
        f"- A storage that fails is given up after FMNIST_STORAGE_PATIENCE_S, {PATIENCE_S} here and 300 by default.",
        "",
        *table(rows),
        "",
    ]
    write_atomic(RESULTS / "faults.md", "\n".join(lines))
    console.print("\n".join(lines))


if __name__ == "__main__":
    command(Options, main)
