"""Machines for a test, all on this one: a driver and N hosts in namespaces of their own, joined by
a network of their own.

Each has its own address, hostname, /etc/hosts, processes, /proc, /tmp, /run, /dev/shm and home
folder, and an sshd; the rest of the file system is this machine's, read-only. The network lives in
the driver's namespace: this machine's own gets no interface, and two such tests can run side by
side with the same addresses. Each host ends with its PID 1, which ends when its standard input
closes: nothing is left over, even after a SIGKILL of the test. Needs root and what `make
test-cluster` installs.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME = Path("/root")
SHARED = HOME / "shared"
"""Where every host finds the one folder that all can write to."""
PRIVATE = ("/run", "/tmp", "/dev/shm", str(HOME))
PROGRAMS = (
    "ip",
    "make",
    "mount",
    "nsenter",
    "pgrep",
    "rsync",
    "ssh",
    "ssh-keygen",
    "sshd",
    "unshare",
)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NETWORK = "10.77.0"
SSHD_CONFIG = """\
Port 22
HostKey /run/ssh_host_key
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication no
PermitRootLogin prohibit-password
UsePAM no
PidFile none
"""


def missing() -> str | None:
    """Why no hosts can be made here, or None."""
    if os.geteuid():
        return "namespaces with a network need root"
    absent = [name for name in PROGRAMS if shutil.which(name, path=SYSTEM_PATH) is None]
    return (
        f"not installed: {', '.join(absent)}; `make test-cluster` installs them on Debian"
        if absent
        else None
    )


@dataclass(frozen=True, kw_only=True)
class Host:
    """One machine. `run` and `start` go in by its namespaces, not by SSH."""

    name: str
    address: str
    keeper: subprocess.Popen[str]
    """unshare(1), the parent of the host's PID 1; the host lives as long as its standard input
    is open."""
    pid: int
    """The host's PID 1, as seen from here."""

    @property
    def root(self) -> Path:
        """Here, the host's whole file system."""
        return Path(f"/proc/{self.pid}/root")

    def _words(self, words: Sequence[object], changes: dict[str, str] | None) -> list[str]:
        environment = {
            "HOME": str(HOME),
            "PATH": SYSTEM_PATH,
            "LANG": "C.UTF-8",
            "USER": "root",
        } | (changes or {})
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        inside = [
            "env",
            "-i",
            f"--chdir={HOME}",
            *(f"{name}={value}" for name, value in environment.items()),
        ]
        return [*enter, *inside, *map(str, words)]

    def start(
        self, *words: object, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._words(words, env), stdin=subprocess.DEVNULL, text=True, **options
        )

    def run(
        self, *words: object, env: dict[str, str] | None = None, timeout_s: float = 1200
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end. Raises RuntimeError if that takes too long; the message has what it
        printed."""
        process = self.start(
            *words,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # nsenter alone would leave what it started
            output, _ = process.communicate()
            raise RuntimeError(
                f"not done within {timeout_s} s: {' '.join(map(str, words))}\n{output}"
            ) from None
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def processes(self) -> dict[int, str]:
        """What runs on this host, by its PID here, without PID 1, sshd and what SSH keeps open."""
        namespace = Path(f"/proc/{self.pid}/ns/pid").readlink()
        found: dict[int, str] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended while we looked
                words = (
                    (folder / "cmdline")
                    .read_bytes()
                    .decode(errors="replace")
                    .replace("\0", " ")
                    .strip()
                )
                if (folder / "ns/pid").readlink() == namespace and int(folder.name) != self.pid:
                    found[int(folder.name)] = words or (folder / "comm").read_text().strip()
        return {
            pid: words
            for pid, words in found.items()
            if not words.startswith(("sshd: ", "ssh: ", "/usr/sbin/sshd"))
        }

    def end(self) -> None:
        assert self.keeper.stdin is not None
        with contextlib.suppress(OSError):
            self.keeper.stdin.close()
        try:
            self.keeper.wait(10)
        except subprocess.TimeoutExpired:
            self.keeper.kill()  # --kill-child takes PID 1, and so the whole host, with it
            self.keeper.wait()


@dataclass(frozen=True)
class Network:
    """The driver, from which a user works, and the hosts of the cluster."""

    driver: Host
    hosts: list[Host]
    shared: Path
    """Here, the folder that is SHARED on every host."""


@contextlib.contextmanager
def network(
    count: int,
    *,
    visible: Sequence[Path] = (),
    binds: dict[str, Path] | None = None,
    environment: dict[str, str] | None = None,
    hostname_resolves: bool = True,
) -> Generator[Network]:
    """Make a driver and `count` hosts; take everything down at the end.

    Args:
        count: hosts beside the driver, up to 100.
        visible: folders of this machine that each sees at the same path, read-only, even if they
            lie in PRIVATE; Python's is.
        binds: more of them, {path on the hosts: folder here}, not on the driver.
        environment: of every command that comes to a host by SSH.
        hostname_resolves: to the host's own address; else to 127.0.1.1, as Debian's installer
            leaves it.

    Raises:
        RuntimeError: a host did not come up; the message has what it said.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="hosts", ignore_cleanup_errors=True)
            )
        )
        shared = folder / "shared"
        shared.mkdir()
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", folder / "key"],
            check=True,
        )
        addresses = {f"node{index}": f"{NETWORK}.{index}" for index in range(1, count + 1)}
        common = {
            "public_key": (folder / "key.pub").read_text(),
            "names": addresses,
            "environment": environment or {},
            "hostname_resolves": hostname_resolves,
        }
        paths = {
            path for named in (Path(sys.base_prefix), *visible) for path in (named, named.resolve())
        }
        hidden = sorted(
            path for path in paths if any(path.is_relative_to(private) for private in PRIVATE)
        )

        def add(name: str, address: str, **more: Any) -> Host:
            mounts = (
                {str(path): str(path) for path in hidden}
                | {str(SHARED): str(shared)}
                | more.pop("binds", {})
            )
            host = _start(name, address, folder / f"{name}.log")
            stack.callback(host.end)
            _connect(host, driver or host)
            _say(
                host,
                common | {"name": name, "address": address, "binds": mounts} | more,
                folder / f"{name}.log",
            )
            return host

        driver: Host | None = None
        driver = add("driver", f"{NETWORK}.254", private_key=(folder / "key").read_text())
        hosts = [
            add(name, address, binds={path: str(here) for path, here in (binds or {}).items()})
            for name, address in addresses.items()
        ]
        yield Network(driver, hosts, shared)


def _start(name: str, address: str, log: Path) -> Host:
    kinds = ["--net", "--pid", "--mount", "--uts", "--ipc"]
    words = [
        "unshare",
        *kinds,
        "--fork",
        "--kill-child",
        "--mount-proc",
        sys.executable,
        "-B",
        "-I",
        __file__,
    ]
    with log.open("w") as errors:
        keeper = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert keeper.stdout is not None
    if keeper.stdout.readline() != "up\n":  # PID 1 runs
        keeper.kill()
        raise RuntimeError(f"{name} did not start: {log.read_text()}")
    (pid,) = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text().split()
    return Host(name=name, address=address, keeper=keeper, pid=int(pid))


def _connect(host: Host, driver: Host) -> None:
    """Put an interface into the host: the driver's is the bridge itself, each other's an end of
    a pair whose other end is on it."""

    def ip(*words: object) -> None:
        subprocess.run(
            ["nsenter", f"--target={driver.pid}", "--net", "ip", *map(str, words)], check=True
        )

    if host is driver:
        ip("link", "add", "eth0", "type", "bridge")
        return
    ip("link", "add", host.name, "type", "veth", "peer", "name", "eth0", "netns", host.pid)
    ip("link", "set", host.name, "master", "eth0", "up")


def _say(host: Host, settings: dict[str, Any], log: Path) -> None:
    """Give the host's PID 1 its settings, and wait until its sshd answers."""
    assert host.keeper.stdin is not None
    assert host.keeper.stdout is not None
    try:
        host.keeper.stdin.write(json.dumps(settings) + "\n")
        host.keeper.stdin.flush()
        ready = host.keeper.stdout.readline() == "ready\n"
    except OSError:
        ready = False
    if not ready:
        raise RuntimeError(f"{host.name} did not come up: {log.read_text()}")


# What follows runs as PID 1 of a host.


def _call(*words: object) -> None:
    subprocess.run(list(map(str, words)), check=True)


def _mount(settings: dict[str, Any]) -> None:
    """Own /run, /tmp, /dev/shm and home; the rest read-only; then what is to be seen in them."""
    binds = {Path(target): Path(source) for target, source in settings["binds"].items()}
    _call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for index, source in enumerate(binds.values()):  # kept in reach, before a mount hides them
        kept = Path(f"/run/kept/{index}")
        kept.mkdir(parents=True)
        _call("mount", "--bind", source, kept)
    _call("mount", "-o", "remount,bind,ro", "/")
    for path in PRIVATE[1:]:
        _call(
            "mount",
            "-t",
            "tmpfs",
            "-o",
            f"mode={'700' if path == str(HOME) else '1777'}",
            "tmpfs",
            path,
        )
    for index, target in enumerate(binds):
        target.mkdir(parents=True, exist_ok=True)
        _call("mount", "--bind", f"/run/kept/{index}", target)
        if target != SHARED:
            _call("mount", "-o", "remount,bind,ro", target)
        _call("umount", f"/run/kept/{index}")


def _name(settings: dict[str, Any]) -> None:
    socket.sethostname(settings["name"])
    own = settings["address"] if settings["hostname_resolves"] else "127.0.1.1"
    others = {
        name: address for name, address in settings["names"].items() if name != settings["name"]
    }
    lines = [
        "127.0.0.1 localhost",
        f"{own} {settings['name']}",
        *(f"{address} {name}" for name, address in others.items()),
    ]
    Path("/run/hosts").write_text("\n".join(lines) + "\n")
    _call("mount", "--bind", "/run/hosts", "/etc/hosts")


def _serve_ssh(settings: dict[str, Any]) -> None:
    ssh = HOME / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "authorized_keys").write_text(settings["public_key"])
    if key := settings.get("private_key"):
        (ssh / "id_ed25519").touch(mode=0o600)
        (ssh / "id_ed25519").write_text(key)
    for name in (".bashrc", ".profile"):
        shutil.copy(f"/etc/skel/{name}", HOME)
    Path("/run/sshd").mkdir()
    variables = "".join(f" '{name}={value}'" for name, value in settings["environment"].items())
    Path("/run/sshd_config").write_text(SSHD_CONFIG + (f"SetEnv{variables}\n" if variables else ""))
    _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/ssh_host_key")
    subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-e", "-f", "/run/sshd_config"],
        env={"PATH": SYSTEM_PATH},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((settings["address"], 22), timeout=5).close()
            return
        time.sleep(0.01)


def _live() -> None:
    """Reap what ends, as PID 1 must (a zombie would keep `ray stop` waiting), until standard
    input closes."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if select.select([sys.stdin], [], [], 0.1)[0]:
            return


def _main() -> None:
    print("up", flush=True)
    line = sys.stdin.readline()
    if not line:
        return
    settings = json.loads(line)
    os.environ["PATH"] = SYSTEM_PATH
    _mount(settings)
    _name(settings)
    _call("ip", "link", "set", "lo", "up")
    _call("ip", "address", "add", f"{settings['address']}/24", "dev", "eth0")
    _call("ip", "link", "set", "eth0", "up")
    _serve_ssh(settings)
    print("ready", flush=True)
    _live()


if __name__ == "__main__":
    _main()
