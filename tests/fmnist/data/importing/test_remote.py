"""Data on S3: fetched once, gone on with after an interruption, and told in a line if it fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from fmnist.data.importing.mirror import FETCHED_FILE, PARTS
from fmnist.data.importing.options import ImportOptions
from fmnist.data.importing.origin import import_named
from fmnist.data.importing.recognise import recognise
from fmnist.data.importing.remote import LOCK_FILE, fetch
from fmnist.errors import DataError, FailedError
from tests.fmnist.data.importing.conftest import Arrays
from tests.fmnist.data.importing.listed import as_png, pixels_of, take_apart
from tests.harness.s3 import AWS, S3

INTERNAL = (FETCHED_FILE, LOCK_FILE, PARTS)


class Bucket:
    """A bucket on moto's server."""

    def __init__(self, server: S3) -> None:
        self.server = server
        self.name = f"pictures-{server.server.server_port}"
        self.client: Any = boto3.client("s3", region_name="us-east-1")
        self.client.create_bucket(Bucket=self.name)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def address(self, prefix: str) -> str:
        return f"s3://{self.name}/{prefix}"

    def fetched(self) -> list[tuple[str, str]]:
        """Keys and ranges of the objects that were asked for since the last call."""
        ranges = [(path, wanted) for _, path, wanted in self.server.requests if wanted]
        self.server.requests.clear()
        return sorted((path.removeprefix(f"/{self.name}/"), wanted) for path, wanted in ranges)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with S3() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server.address}")
        yield Bucket(server)


def contents(folder: Path) -> dict[str, bytes]:
    """Name and content of each file that was fetched."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in INTERNAL:
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def test_only_what_has_changed_is_fetched_again(bucket: Bucket, tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        bucket.put(f"sets/pets/{name}", name.encode())
    bucket.put("sets/pets/", b"")  # as consoles make folders
    bucket.put("sets/pets-of-others/1.png", b"another prefix")

    folder = fetch(bucket.address("sets/pets"), tmp_path)
    expected = {name: name.encode() for name in ("cat/1.png", "cat/2.png", "dog/1.png")}
    assert folder.name == "pets" and contents(folder) == expected
    assert len(bucket.fetched()) == 3

    assert fetch(bucket.address("sets/pets/"), tmp_path) == folder
    assert bucket.fetched() == []

    bucket.put("sets/pets/cat/2.png", b"CAT/2.png")
    bucket.put("sets/pets/dog/2.png", b"new")
    bucket.delete("sets/pets/cat/1.png")
    (folder / "dog/1.png").unlink()
    fetch(bucket.address("sets/pets"), tmp_path)
    expected = {"cat/2.png": b"CAT/2.png", "dog/1.png": b"dog/1.png", "dog/2.png": b"new"}
    assert contents(folder) == expected
    asked = [key for key, _ in bucket.fetched()]
    assert asked == [f"sets/pets/{name}" for name in expected]


def test_one_object_and_a_whole_bucket(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a/set.npz", b"content")
    path = fetch(bucket.address("a/set.npz"), tmp_path)
    assert path.name == "set.npz" and path.read_bytes() == b"content"
    assert fetch(bucket.address("a/set.npz"), tmp_path) == path

    whole = fetch(f"s3://{bucket.name}", tmp_path)
    assert whole.name == bucket.name and contents(whole) == {"a/set.npz": b"content"}


def test_the_server_may_stand_in_the_address(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As --storage has it."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    bucket.put("set/1.png", b"1")
    query = f"?region=us-east-1&scheme=http&endpoint_override={bucket.server.address}"
    folder = fetch(bucket.address("set") + query, tmp_path)
    assert contents(folder) == {"1.png": b"1"}


def test_a_broken_connection_is_gone_on_with(bucket: Bucket, tmp_path: Path) -> None:
    content = bytes(range(250)) * 12
    bucket.put("set/large.bin", content)
    bucket.server.cut_at = 1000
    folder = fetch(bucket.address("set"), tmp_path)
    assert contents(folder) == {"large.bin": content}
    assert [wanted for _, wanted in bucket.fetched()] == [
        "bytes=0-",
        "bytes=1000-",
        "bytes=2000-",
    ]


def test_an_interrupted_fetch_goes_on(bucket: Bucket, tmp_path: Path) -> None:
    """Five tries are too few for this; what has come is kept."""
    content = bytes(range(200)) * 40
    bucket.put("set/large.bin", content)
    bucket.put("set/small.bin", b"small")
    bucket.server.cut_at = 1000
    with pytest.raises(FailedError, match="what was fetched is kept: the same command goes on"):
        fetch(bucket.address("set"), tmp_path)
    bucket.fetched()

    bucket.server.cut_at = None
    folder = fetch(bucket.address("set"), tmp_path)
    assert contents(folder) == {"large.bin": content, "small.bin": b"small"}
    assert ("set/large.bin", "bytes=5000-") in bucket.fetched()
    assert not (folder / PARTS).exists()


def test_a_part_of_another_version_is_not_gone_on_with(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("set/large.bin", b"a" * 8000)
    bucket.server.cut_at = 1000
    with pytest.raises(FailedError):
        fetch(bucket.address("set"), tmp_path)
    bucket.server.cut_at = None
    bucket.put("set/large.bin", b"b" * 8000)
    folder = fetch(bucket.address("set"), tmp_path)
    assert contents(folder) == {"large.bin": b"b" * 8000}


def test_a_server_that_fails_is_no_fault_of_the_user(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("set/1.png", b"1")
    bucket.server.failing = True
    with pytest.raises(FailedError) as raised:
        fetch(bucket.address("set"), tmp_path)
    assert "\n" not in str(raised.value)


def test_what_is_missing_is_told_in_a_line(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("set/1.png", b"1")
    for address, message in (
        (bucket.address("sets"), f"the bucket '{bucket.name}' has nothing under 'sets/'"),
        ("s3://no-such-bucket/set", "there is no bucket 'no-such-bucket'"),
        ("s3:///set", "it names no bucket; give s3://BUCKET/PREFIX"),
        ("s3://No_Bucket!/set", "Invalid bucket name"),
    ):
        with pytest.raises(DataError) as raised:
            fetch(address, tmp_path)
        assert str(raised.value).startswith(f"data={address!r}: ")
        assert message in str(raised.value) and "\n" not in str(raised.value)


def test_no_server_and_no_profile_are_told_in_a_line(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(FailedError, match="the server does not answer"):
        fetch(bucket.address("set"), tmp_path)

    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(DataError, match=r"The config profile \(nobody\) could not be found"):
        fetch(bucket.address("set"), tmp_path)


def test_a_public_bucket_needs_no_credentials(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("set/1.png", b"1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(DataError, match="or it has none and the bucket is not public"):
        fetch(bucket.address("set"), tmp_path)

    bucket.client.put_bucket_acl(Bucket=bucket.name, ACL="public-read")
    bucket.client.put_object_acl(Bucket=bucket.name, Key="set/1.png", ACL="public-read")
    assert contents(fetch(bucket.address("set"), tmp_path)) == {"1.png": b"1"}


def test_keys_that_lead_out_of_the_folder_are_refused(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("set/../../evil.png", b"1")
    bucket.put("set/a", b"1")
    bucket.put("set/a/b.png", b"1")
    bucket.put("set/.parts/c.png", b"1")
    with pytest.raises(DataError) as raised:
        fetch(bucket.address("set"), tmp_path / "cache")
    assert "these keys: '../../evil.png', '.parts/c.png', 'a/b.png'; rename them" in str(
        raised.value
    )
    assert not (tmp_path / "evil.png").exists()


def test_a_set_on_s3_is_a_local_source(
    bucket: Bucket, fashion_arrays: Arrays, tmp_path: Path
) -> None:
    np.savez(
        tmp_path / "f.npz", x_train=fashion_arrays.train_images, y_train=fashion_arrays.train_labels
    )
    bucket.put("sets/f.npz", (tmp_path / "f.npz").read_bytes())
    reader = recognise(fetch(bucket.address("sets/f.npz"), tmp_path / "cache"), "data")
    items, _ = take_apart(reader)
    assert np.array_equal(pixels_of(items), fashion_arrays.train_images)


def test_import_named_takes_an_address(
    bucket: Bucket, fashion_arrays: Arrays, tmp_path: Path
) -> None:
    """Imported once: the second call fetches and imports nothing."""
    for number in range(40):
        image = as_png(fashion_arrays.train_images[number])
        bucket.put(f"sets/two/{'ab'[number % 2]}/{number}.png", image)
    options = ImportOptions(height=28, width=28)
    folder = import_named(bucket.address("sets/two"), options, tmp_path / "imported")
    assert len(bucket.fetched()) == 40
    assert import_named(bucket.address("sets/two"), options, tmp_path / "imported") == folder
    assert bucket.fetched() == []
