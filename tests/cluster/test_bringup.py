"""cluster/onprem.yaml as its own comment says it: from `ray up` to results at home and `ray down`,
on machines that hosts.py makes.

Ray's launcher runs `ray stop`, which ends every Ray process that it can see: it is called in those
machines alone.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.cluster.hosts import HOME, SHARED, SYSTEM_PATH, Host, Network, missing, network
from tests.conftest import ROOT

pytestmark = [pytest.mark.bringup, pytest.mark.cluster, pytest.mark.timeout(2400)]

VENV = Path(sys.prefix)
URL = "http://localhost:8265"
CHECKOUT = HOME / "checkout"
LENET = ("--recipe", "e-lenet-0.05", "--epochs", "1")
BUILT = "        super().__init__()\n"
SPEAKS = '        print("changed", __import__("socket").gethostname(), __file__, flush=True)\n'
SPACE = 'model = ["lenet"]\nlr = [0.02, 0.05]\n'
MACHINE = {
    # As many hosts as there are stand on one machine
    "RAY_OVERRIDE_RESOURCES": '{"CPU": 2, "object_store_memory": 150000000}',
    # 15 by default: beside anything else that runs on this machine, the workers would starve
    "RAY_worker_niceness": "0",
    # 60 by default: so long a worker waits for a head that is gone
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
    "RAY_DEDUP_LOGS": "0",  # "printed on node1" and "printed on node2" are the same to it
}
USER = {
    "PATH": f"{VENV}/bin:{SYSTEM_PATH}",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "NO_COLOR": "1",
    "COLUMNS": "200",
}
STRANGER = USER | {"HOME": "/tmp"}
ASK = """
import sys, urllib.error, urllib.request
headers = {"Authorization": f"Bearer {token}" for token in sys.argv[2:]}
try:
    request = urllib.request.Request(sys.argv[1], headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as refusal:
    print(refusal.code)
except OSError as error:
    print(error)
"""
OTHER_CLUSTER = """
import ray, sys
ray.init(
    address="local",
    num_cpus=1,
    object_store_memory=80_000_000,
    include_dashboard=False,
    log_to_driver=False,
)
@ray.remote
class Counter:
    count = 0
    def up(self):
        self.count += 1
        return self.count
counter = Counter.remote()
for _ in sys.stdin:
    print(ray.get(counter.up.remote(), timeout=30), flush=True)
"""


@pytest.fixture(autouse=True)
def possible() -> None:
    """As root nothing is left out: what is missing is a failure."""
    if why := missing():
        assert os.geteuid(), why
        pytest.skip(why)


@contextlib.contextmanager
def phase(name: str) -> Generator[None]:
    start = time.monotonic()
    yield
    print(f"{time.monotonic() - start:6.1f} s  {name}", flush=True)


def until(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        time.sleep(0.5)


@contextlib.contextmanager
def other_cluster() -> Generator[Callable[[], int]]:
    """A Ray of this machine that is none of ours; an actor of it counts the calls."""
    with (
        tempfile.TemporaryDirectory(prefix="ro", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [sys.executable, "-c", OTHER_CLUSTER],
            env=os.environ | {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):

        def count() -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield count


@dataclass(frozen=True)
class Desk:
    """Where the user sits: the driver, with a checkout, the token and cluster/onprem.yaml filled
    in."""

    network: Network

    @property
    def driver(self) -> Host:
        return self.network.driver

    @property
    def home(self) -> Path:
        """The driver's home, as it is seen from here."""
        return self.driver.root / HOME.relative_to("/")

    @property
    def token(self) -> str:
        return (self.home / ".ray/auth_token").read_text()

    def __call__(self, *words: object) -> str:
        """Run it in the checkout; it must succeed."""
        return said(self.driver.run("env", f"--chdir={CHECKOUT}", *words, env=USER))

    def submit(
        self, name: str, module: str, *arguments: object, storage: Path = SHARED / "runs"
    ) -> subprocess.CompletedProcess[str]:
        """Run a module as a job on the cluster, and wait for its end."""
        folders = ("--storage", storage, "--data", SHARED / "data")
        job = (
            "python",
            "-m",
            module,
            "--address",
            "auto",
            *folders,
            "--name",
            name,
            "--verbose",
            *arguments,
        )
        words = ("ray", "job", "submit", "--address", URL, "--working-dir", ".", "--", *job)
        return self.driver.run("env", f"--chdir={CHECKOUT}", *words, env=USER)

    def ask(self, path: str, *token: str) -> str:
        """What the dashboard answers: the status and the body."""
        return self.driver.run(
            sys.executable, "-I", "-c", ASK, f"{URL}{path}", *token
        ).stdout.strip()

    def nodes(self) -> int:
        status, _, body = self.ask("/nodes?view=summary", self.token).partition(" ")
        rows = json.loads(body)["data"]["summary"] if status == "200" else []
        return sum(row["raylet"].get("state") == "ALIVE" for row in rows)


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, (
        f"exit status {done.returncode} of {done.args}\n{done.stdout[-20000:]}"
    )
    return done.stdout


def sit_down(net: Network, data: Path) -> Desk:
    """What a user does first: clone, fill in cluster/onprem.yaml, make a token; and the data
    into the shared folder."""
    desk = Desk(net)
    checkout = desk.home / "checkout"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(
        listed, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        if (ROOT / name).exists():  # else it is deleted, and not yet committed
            target = checkout / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    shutil.copytree(data, net.shared / "data")
    config_file = checkout / "cluster/onprem.yaml"
    config = yaml.safe_load(config_file.read_text())
    config["provider"] |= {
        "head_ip": net.hosts[0].address,
        "worker_ips": [host.address for host in net.hosts[1:]],
    }
    config["auth"]["ssh_user"] = "root"
    config_file.write_text(yaml.safe_dump(config))
    (checkout / "space.toml").write_text(SPACE)
    desk("ray", "get-auth-token", "--generate")
    return desk


@contextlib.contextmanager
def machines(count: int, data: Path, *, hostname_resolves: bool = True) -> Generator[Desk]:
    """Hosts, and a desk to work from; if the test fails, tell what they know."""
    with network(
        count,
        visible=[VENV],
        binds={f"{HOME}/fmnist/.venv": VENV},
        environment=MACHINE,
        hostname_resolves=hostname_resolves,
    ) as net:
        try:
            yield sit_down(net, data)
        except BaseException:
            for host in net.hosts:
                print(
                    f"\n{host.name} runs:",
                    *(words[:120] for words in host.processes().values()),
                    sep="\n  ",
                )
            logs = (
                "tail -n 80 /tmp/ray/session_latest/logs/monitor.*"
                " /tmp/ray/session_latest/logs/gcs_server.err"
            )
            print(net.hosts[0].run("sh", "-c", logs).stdout[-20000:])
            raise


@contextlib.contextmanager
def cluster_up(desk: Desk) -> Generator[None]:
    """`ray up`, wait for the nodes, `ray dashboard` held open; at the end `ray down`, after
    which nothing may be left."""
    with phase("ray up"):
        desk("ray", "up", "-y", "cluster/onprem.yaml")
    forward = ("ray", "dashboard", "cluster/onprem.yaml")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    dashboard = desk.driver.start("env", f"--chdir={CHECKOUT}", *forward, env=USER, **quiet)
    with phase("ray dashboard, all nodes"):
        until(
            lambda: desk.nodes() == len(desk.network.hosts), 120, f"{len(desk.network.hosts)} nodes"
        )
    yield
    os.killpg(dashboard.pid, signal.SIGTERM)  # nsenter, `ray dashboard` and its ssh
    dashboard.wait()
    with phase("ray down"):
        assert "No nodes remaining" in desk("ray", "down", "-y", "cluster/onprem.yaml")
    with phase("nothing left"):
        for host in (*desk.network.hosts, desk.driver):
            until(lambda host=host: not host.processes(), 120, f"{host.name} is empty")


def refused(desk: Desk) -> None:
    """Who has no token, or a wrong one, is told so, and nothing else."""
    assert desk.ask("/api/jobs/") == "401"
    assert desk.ask("/api/jobs/", "0" * 32) == "403"
    assert desk.ask("/api/jobs/", desk.token).startswith("200 ")
    jobs = desk.driver.run(
        "ray", "job", "list", "--address", URL, env=STRANGER | {"RAY_AUTH_MODE": "disabled"}
    )
    assert jobs.returncode
    assert "no authentication token was found" in jobs.stdout
    join = f"import ray; ray.init('{desk.network.hosts[0].address}:6379'); print(ray.nodes())"
    joined = desk.driver.run("python", "-c", join, env=STRANGER | {"RAY_AUTH_TOKEN": "0" * 32})
    assert joined.returncode
    assert "Failed to connect to Ray cluster" in joined.stdout
    assert "InvalidAuthToken" in joined.stdout or "authentication token" in joined.stdout


def hosts_of_ranks(net: Network, output: str) -> set[str]:
    """The hosts on which Ray Train placed ranks."""
    return {host.name for host in net.hosts if f"(ip={host.address}, " in output}


def test_two_hosts_from_ray_up_to_ray_down(small_data: Path) -> None:
    with other_cluster() as count, machines(2, small_data) as desk:
        both = {"node1", "node2"}
        assert count() == 1
        with cluster_up(desk):
            with (
                ThreadPoolExecutor(1) as pool,
                phase("a training on both, strangers refused meanwhile"),
            ):
                strangers = pool.submit(refused, desk)
                output = said(desk.submit("first", "cluster.train", "--workers", 2, *LENET))
                strangers.result()
            assert hosts_of_ranks(desk.network, output) == both, output

            with phase("a storage that the head alone sees"):
                alone = desk.submit(
                    "third", "cluster.train", "--workers", 2, *LENET, storage=Path("/tmp/runs")
                )
            assert alone.returncode
            assert (
                f"error: storage: node {desk.network.hosts[1].address} does not see /tmp/runs/"
                in alone.stdout
            )

            # What is changed at the desk is what runs, without a new `ray up`.
            network_file = desk.home / "checkout/fmnist/models/lenet.py"
            network_file.write_text(network_file.read_text().replace(BUILT, BUILT + SPEAKS))
            search = (
                "--preset",
                "demo",
                "--space",
                "space.toml",
                "--trials",
                2,
                "--retrain-epochs",
                1,
                "--time-budget-min",
                0,
            )
            base = ("--train.epochs", 1, "--train.train-images", 0, "--train.optimizer", "sgd")
            with phase("a search whose trials are DDP trainings, with changed code"):
                output = said(
                    desk.submit("second", "tune.search", "--workers-per-trial", 2, *search, *base)
                )
            printed = [
                line
                for line in output.splitlines()
                if "RayTrainWorker" in line and " changed node" in line
            ]
            assert {line.split(" changed ")[1].split()[0] for line in printed} == both, output
            assert all("/working_dir_files/" in line for line in printed)

            with phase("results fetched"):
                for name in ("first", "second"):
                    desk(
                        "ray", "rsync-down", "cluster/onprem.yaml", f"{SHARED}/runs/{name}", "runs/"
                    )
            runs = desk.home / "checkout/runs"
            assert (
                json.loads((runs / "first/summary.json").read_text())["validation_accuracy"] > 0.2
            )
            assert json.loads((runs / "second/summary.json").read_text())["test_images"] == 500
            for name in ("first", "second"):
                assert (runs / name / "best/model.safetensors").exists()
        assert count() == 2


def test_three_hosts_whose_names_do_not_resolve_to_their_addresses(small_data: Path) -> None:
    with machines(3, small_data, hostname_resolves=False) as desk, cluster_up(desk):
        with phase("a training on all three"):
            output = said(
                desk.submit(
                    "first", "cluster.train", "--workers", 3, "--global-batch-size", 192, *LENET
                )
            )
        assert hosts_of_ranks(desk.network, output) == {"node1", "node2", "node3"}, output
