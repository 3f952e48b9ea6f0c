"""Where a run lives: a folder, or S3 (moto's server in this process, which can be made to fail)."""

import errno
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster import storage as module
from cluster.storage import StateFile, open_storage, retry
from fmnist.errors import FailedError, InputError
from tests.gates import wait_until
from tests.harness.s3 import AWS, S3


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with pytest.MonkeyPatch.context() as patch, S3() as s3:
        for name, value in AWS.items():
            patch.setenv(name, value)
        yield s3


@pytest.fixture
def s3(server: S3, request: pytest.FixtureRequest) -> S3:
    """An empty prefix of the bucket."""
    server.prefix = f"{server.server.server_port}-{request.node.name}"
    return server


def keys(s3: S3) -> list[str]:
    """The files below the prefix; pyarrow leaves empty objects that stand for folders."""
    listed = s3.call("GET", f"/runs?list-type=2&prefix={s3.prefix}/").decode()
    found = [part.partition("</Key>")[0] for part in listed.split("<Key>")[1:]]
    return sorted(key.removeprefix(f"{s3.prefix}/") for key in found if not key.endswith("/"))


class Clock:
    """A scripted clock: sleeping moves it on."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def failing(times: int, then: str = "done") -> Callable[[], str]:
    left = [times]

    def act() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.EIO, "gone")
        return then

    return act


def test_patience_waits_longer_each_time_up_to_ten_seconds_and_tells_once(clock: Clock) -> None:
    told: list[str] = []
    assert retry("saving", failing(8), told.append) == "done"
    assert clock.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert told == ["saving: the storage does not answer ([Errno 5] gone); trying again for 300 s"]
    assert retry("saving", failing(1)) == "done"  # nobody to tell
    assert retry("saving", failing(0), told.append) == "done"
    assert len(told) == 1


def test_patience_ends(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 3.5)
    with pytest.raises(
        FailedError, match=r"^saving: the storage failed for 4 s \(\[Errno 5\] gone\)$"
    ):
        retry("saving", failing(4))
    assert clock.slept == [0.5, 1.0, 2.0]  # the next wait would end after the deadline
    assert retry("saving", failing(3)) == "done"


def test_what_is_no_failure_of_the_storage_is_raised_at_once(clock: Clock) -> None:
    def act() -> None:
        raise KeyError("a defect")

    with pytest.raises(KeyError):
        retry("saving", act)
    assert clock.slept == []


def test_patience_is_the_users_to_set() -> None:
    assert module.PATIENCE_S == 300


def state(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "weights": torch.full((3,), float(epoch))}


def test_a_state_in_a_folder(tmp_path: Path) -> None:
    file = open_storage(None).state(Path("runs/a"))
    assert file.place == str(tmp_path / "runs/a/last.pt")
    assert file.load() is None
    file.save(state(1))
    file.save(state(2))
    found = file.load()
    assert found is not None
    assert found["epoch"] == 2
    assert torch.equal(found["weights"], torch.full((3,), 2.0))
    file.remove()
    file.remove()
    assert file.load() is None


def test_a_state_on_s3(s3: S3) -> None:
    storage = open_storage(s3.place)
    file = storage.state(Path("runs/a"), "search", "trial_0001")
    assert file.load() is None
    file.save(state(1))
    file.save(state(2))
    assert keys(s3) == ["a/search/trial_0001/last.pt"]
    found = StateFile(file.place).load()
    assert found is not None
    assert found["epoch"] == 2
    assert torch.equal(found["weights"], torch.full((3,), 2.0))
    file.remove()
    file.remove()
    assert keys(s3) == []
    assert file.load() is None


def test_a_state_is_saved_and_read_with_patience(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []

    def patient(what: str, act: Callable[[], Any], tell: Any = None) -> Any:
        calls.append((what, tell))
        return act()

    monkeypatch.setattr(module, "retry", patient)
    file = open_storage(s3.place).state(Path("runs/a"))
    tell = calls.append
    file.save(state(1), tell)  # pyright: ignore[reportArgumentType]
    file.load(tell)  # pyright: ignore[reportArgumentType]
    assert calls == [("saving the state", tell), ("reading the state to resume from", tell)]


class Evil:
    """Unpickled, it would write a file."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("code-ran"),)


def test_a_state_on_s3_runs_no_code(s3: S3, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"epoch": Evil()}, buffer)
    file = open_storage(s3.place).state(Path("runs/a"))
    filesystem, path = module._split(file.place)  # pyright: ignore[reportPrivateUsage]
    module._put(filesystem, path, buffer.getvalue())  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(pickle.UnpicklingError):
        file.load()
    assert not (tmp_path / "code-ran").exists()


@pytest.mark.parametrize(
    ("address", "uri", "path"),
    [
        ("s3://bucket/a/b", "s3://bucket", "bucket/a/b"),
        ("s3://bucket/a/b/", "s3://bucket", "bucket/a/b"),
        ("s3://bucket", "s3://bucket", "bucket"),
        ("s3://bucket/a?region=x", "s3://bucket?region=x", "bucket/a"),
        (
            "s3://bucket/a/b?endpoint_override=http://host?x",
            "s3://bucket?endpoint_override=http://host?x",
            "bucket/a/b",
        ),
    ],
)
def test_an_address_is_a_file_system_and_a_path(
    address: str, uri: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_filesystem", lambda uri: (uri, "ignored"))
    assert module._split(address) == (uri, path)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("query", ["", "?region=x", "?endpoint_override=http://host/?x"])
def test_a_bucket_is_tried_with_an_empty_file_that_is_taken_back(
    query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []

    class FileSystem:
        def delete_file(self, path: str) -> None:
            done.append(path)

    opened: list[str] = []
    monkeypatch.setattr(
        module, "open_filesystem", lambda uri: (opened.append(uri), (FileSystem(), ""))[1]
    )
    monkeypatch.setattr(
        module, "_put", lambda filesystem, path, content: done.append((path, content))
    )
    place = f"s3://bucket/runs{query}"
    assert open_storage(place).place == place
    assert opened == [f"s3://bucket{query}"]
    assert done == [("bucket/runs/.probe", b""), "bucket/runs/.probe"]
    assert open_storage("s3://bucket/runs/").place == "s3://bucket/runs"


class Stream:
    """An output stream whose write fails."""

    closed = False

    def write(self, content: bytes) -> None:
        raise OSError("503")

    def close(self) -> None:
        self.closed = True


def test_a_write_that_fails_is_not_closed_into_half_an_object() -> None:
    class FileSystem:
        stream = Stream()

        def open_output_stream(self, path: str) -> Stream:
            return self.stream

    with pytest.raises(OSError, match="503"):
        module._put(FileSystem(), "a", b"content")  # pyright: ignore[reportPrivateUsage]
    assert not FileSystem.stream.closed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "gs://bucket/runs",
            "storage='gs://bucket/runs': gs:// is not known; give a folder, or s3://BUCKET/PREFIX",
        ),
        ("s3://", "storage='s3://': it names no bucket; give s3://BUCKET/PREFIX"),
        (
            "s3:///?region=x",
            "storage='s3:///?region=x': it names no bucket; give s3://BUCKET/PREFIX",
        ),
        (
            "/proc/nothing",
            (
                "storage='/proc/nothing': it cannot be written to (No such file or directory); "
                "give a folder that every node can write to"
            ),
        ),
    ],
)
def test_a_storage_that_cannot_be(given: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        open_storage(given)
    assert str(raised.value) == message


def test_a_bucket_that_is_not_there(s3: S3) -> None:
    place = s3.place.replace("s3://runs/", "s3://nowhere/")
    with pytest.raises(InputError) as raised:
        open_storage(place)
    said = str(raised.value)
    assert said.startswith(f"storage={place!r}: it cannot be written to (When")
    assert said.endswith("); the bucket must exist, and this machine be allowed to use it")
    assert len(said.splitlines()) == 1


def test_opening_leaves_nothing_behind(s3: S3, tmp_path: Path) -> None:
    open_storage(s3.place)
    assert keys(s3) == []
    for _ in range(2):
        assert open_storage(str(tmp_path / "a/b")).place == str(tmp_path / "a/b")
    assert list((tmp_path / "a/b").iterdir()) == []


def test_the_home_folder_may_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_storage("~/runs").place == str(tmp_path / "home/runs")


def test_where_the_run_folder_is(tmp_path: Path, s3: S3) -> None:
    run = Path("runs/a")
    for here in (open_storage(None), open_storage("runs")):
        assert (here.place, here.remote, here.runs) == (str(tmp_path / "runs"), False, Path("runs"))
        assert here.marker(run) == str(tmp_path / "runs/a/config.json")
    shared = open_storage(str(tmp_path / "shared"))
    assert shared.runs == tmp_path / "shared"
    assert shared.address("a", "b") == f"{tmp_path}/shared/a/b"
    remote = open_storage(s3.place)
    assert (remote.remote, remote.runs, remote.marker(run)) == (True, Path("runs"), None)
    prefix, _, query = s3.place.partition("?")
    assert remote.address("a", "b") == f"{prefix}/a/b?{query}"
    assert open_storage(f"{prefix}/?{query}").address("a") == f"{prefix}/a?{query}"


def fill(run: Path) -> None:
    (run / "search").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "search/trials.jsonl").write_text("1\n")
    (run / "search/journal.jsonl").write_text("")
    (run / ".lock").write_text("")
    (run / "latest").symlink_to("config.json")


def test_a_run_on_s3_alone_is_fetched_without_its_states(s3: S3, tmp_path: Path) -> None:
    storage = open_storage(s3.place)
    with pytest.raises(InputError, match=r"^--resume from s3://runs/.*: name the run with --name$"):
        storage.run_to_resume(None)
    assert storage.run_to_resume("a") is None  # it is still to be made
    fill(Path("runs/a"))
    with storage.mirrored(Path("runs/a"), print):
        pass
    storage.state(Path("runs/a")).save(state(1))
    storage.state(Path("runs/ab")).save(state(1))
    Path("runs").rename("gone")
    assert storage.run_to_resume("a") == Path("runs/a")
    found = sorted(
        str(path.relative_to("runs/a")) for path in Path("runs/a").rglob("*") if path.is_file()
    )
    assert found == ["config.json", "search/journal.jsonl", "search/trials.jsonl"]
    assert Path("runs/a/search/trials.jsonl").read_text() == "1\n"
    Path("runs/a/config.json").write_text("mine")
    assert storage.run_to_resume("a") == Path("runs/a")
    assert (
        Path("runs/a/config.json").read_text() == "mine"
    )  # what is here already is not fetched again


def test_a_storage_that_cannot_be_read(s3: S3) -> None:
    storage = module.Storage(s3.place.replace("s3://runs/", "s3://nowhere/"))
    assert storage.run_to_resume("a") is None
    refused = module.Storage(s3.place)

    class Refusing:
        def get_file_info(self, selector: Any) -> None:
            raise OSError("AccessDenied\nmore")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open_filesystem", lambda uri: (Refusing(), ""))
        with pytest.raises(InputError) as raised:
            refused.run_to_resume("a")
    assert str(raised.value) == f"storage={s3.place!r} cannot be read: AccessDenied"


def test_a_run_in_a_folder_is_found_there(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "shared"))
    assert storage.run_to_resume("a") is None
    fill(tmp_path / "shared/a")
    assert storage.run_to_resume("a") == tmp_path / "shared/a"
    assert storage.run_to_resume(None) == tmp_path / "shared/a"  # the newest
    with storage.mirrored(tmp_path / "shared/a", print) as push:
        push()
    assert not (tmp_path / "runs").exists()


def test_mirroring_copies_what_is_new_or_has_changed(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, run = open_storage(s3.place), Path("runs/a")
    fill(run)
    written: list[str] = []
    put = module._put  # pyright: ignore[reportPrivateUsage]

    def counted(filesystem: Any, path: str, content: Any) -> None:
        written.append(path.rpartition("/a/")[2])
        put(filesystem, path, content)

    monkeypatch.setattr(module, "_put", counted)
    monkeypatch.setattr(module, "MIRROR_EVERY_S", 1000.0)
    with storage.mirrored(run, print) as push:
        push()
        assert written == ["config.json", "search/journal.jsonl", "search/trials.jsonl"]
        assert keys(s3) == [
            "a/config.json",
            "a/search/journal.jsonl",
            "a/search/trials.jsonl",
        ]  # neither hidden files nor links
        push()
        assert len(written) == 3
        (run / "search/trials.jsonl").write_text("1\n2\n")
        push()
        assert written[3:] == ["search/trials.jsonl"]
        (run / "late.json").write_text("late")
    assert written[4:] == ["late.json"]
    assert s3.call("GET", f"/runs/{s3.prefix}/a/search/trials.jsonl") == b"1\n2\n"


def test_mirroring_goes_on_by_itself(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIRROR_EVERY_S", 0.01)
    storage, run = open_storage(s3.place), Path("runs/a")
    fill(run)
    expected = ["a/config.json", "a/search/journal.jsonl", "a/search/trials.jsonl"]
    with storage.mirrored(run, print):
        wait_until(lambda: keys(s3) == expected)
        assert keys(s3) == expected  # while inside: nobody asked for a copy


def test_what_failed_is_told_once_and_copied_in_the_end(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIRROR_EVERY_S", 0.01)
    storage, run, told = open_storage(s3.place), Path("runs/a"), list[str]()
    fill(run)
    attempts = [0]
    put = module._put  # pyright: ignore[reportPrivateUsage]

    def sometimes(filesystem: Any, path: str, content: Any) -> None:
        attempts[0] += 1
        if attempts[0] <= 3:
            raise OSError("slow down\nmore")
        put(filesystem, path, content)

    monkeypatch.setattr(module, "_put", sometimes)
    with storage.mirrored(run, told.append):
        wait_until(lambda: len(keys(s3)) == 3)
    assert told == [f"copying runs/a to {s3.place} failed (slow down); it goes on trying"]


def test_a_run_that_breaks_is_copied_and_its_own_error_told(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIRROR_EVERY_S", 1000.0)
    storage, run = open_storage(s3.place), Path("runs/a")
    fill(run)
    with pytest.raises(KeyError, match="mine"), storage.mirrored(run, print):
        raise KeyError("mine")
    assert keys(s3) == ["a/config.json", "a/search/journal.jsonl", "a/search/trials.jsonl"]

    def fails(filesystem: Any, path: str, content: Any) -> None:
        raise OSError("slow down")

    (run / "config.json").write_text("changed")
    monkeypatch.setattr(module, "_put", fails)
    with pytest.raises(KeyError, match="mine"), storage.mirrored(run, print):
        raise KeyError("mine")


def test_the_last_copy_has_patience(s3: S3, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIRROR_EVERY_S", 1000.0)
    storage, run, told = open_storage(s3.place), Path("runs/a"), list[str]()
    fill(run)

    def fails(filesystem: Any, path: str, content: Any) -> None:
        raise OSError("slow down")

    monkeypatch.setattr(module, "_put", fails)
    with pytest.raises(FailedError) as raised, storage.mirrored(run, told.append):
        pass
    assert (
        str(raised.value)
        == f"copying runs/a to {s3.place}: the storage failed for 300 s (slow down)"
    )
    assert told == [
        f"copying runs/a to {s3.place}: the storage does not answer (slow down); trying again for"
        " 300 s"
    ]


def test_a_file_that_vanishes_meanwhile_is_left_out(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIRROR_EVERY_S", 1000.0)
    storage, run = open_storage(s3.place), Path("runs/a")
    fill(run)
    read = Path.read_bytes

    def vanishing(path: Path) -> bytes:
        if path.name == "config.json":
            raise FileNotFoundError(path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", vanishing)
    with storage.mirrored(run, print) as push:
        push()
        assert keys(s3) == ["a/search/journal.jsonl", "a/search/trials.jsonl"]
