"""Fetch a data set from S3 into the cache: only what is missing there or has changed."""

import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs

from filelock import FileLock

from fmnist.data.importing.mirror import AT_ONCE, FETCHED_FILE, PARTS, Client, Mirror, Remote
from fmnist.data.importing.words import first_of
from fmnist.errors import DataError, FailedError, first_line

SCHEME = "s3://"
OPTIONS = ("region", "endpoint_override", "scheme")
"""What may follow an address after "?", as in --storage."""
LOCK_FILE = ".lock"
OURS = (FETCHED_FILE, PARTS, LOCK_FILE)
"""Names in the cache that no object may have."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 60


@dataclass(frozen=True, slots=True)
class Address:
    """What an s3:// address names."""

    text: str
    bucket: str
    prefix: str
    """"" for the whole bucket."""
    options: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read s3://BUCKET/PREFIX[?region=…&endpoint_override=…&scheme=…].

        Raises:
            DataError: it names no bucket.
        """
        place, question, query = text.removeprefix(SCHEME).rpartition("?")
        found = {name: values[-1] for name, values in parse_qs(query).items()}
        # A key may have a question mark in it.
        if not question or not found or not set(found) <= set(OPTIONS):
            place, found = text.removeprefix(SCHEME), {}
        bucket, _, prefix = place.partition("/")
        if not bucket:
            raise DataError(f"data={text!r}: it names no bucket; give s3://BUCKET/PREFIX")
        return cls(text, bucket, prefix.strip("/"), found)

    @property
    def name(self) -> str:
        """Name of what is fetched on this machine: the last part of the prefix, or the bucket."""
        last = PurePosixPath(self.prefix).name
        return self.bucket if last in ("", "..") else last

    @property
    def endpoint(self) -> str | None:
        """Another server than Amazon's; None leaves it to AWS_ENDPOINT_URL."""
        server = self.options.get("endpoint_override")
        if server is None or "://" in server:
            return server
        return f"{self.options.get('scheme', 'https')}://{server}"

    def folder(self, cache: Path) -> Path:
        """Where the objects of the bucket lie in the cache."""
        server = self.endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
        place = f"{server}\0{self.bucket}\0{self.prefix}"
        return cache / hashlib.sha256(place.encode()).hexdigest()[:16]


def is_remote(data: str) -> bool:
    """Whether it is an address, not a path."""
    return data.startswith(SCHEME)


def fetch(text: str, cache: Path) -> Path:
    """Fetch the objects under an address. Interrupted, the next call goes on.

    Args:
        text: s3://BUCKET/PREFIX, of a folder or of one object.
        cache: the folder that fetched sets are kept in.

    Returns:
        the folder, or the file, on this machine.

    Raises:
        DataError: there is no such bucket or prefix, this machine may not read it, or the disk has
            no room.
        FailedError: the server does not answer.
    """
    address = Address.parse(text)
    with _told(address):
        client = _connect(address)
        found = _list(client, address)
        root = address.folder(cache) / address.name
        is_file = len(found) == 1 and found[0].key == address.prefix
        folder = root.parent if is_file else root
        folder.mkdir(parents=True, exist_ok=True)
        # Another process may be fetching the same.
        with FileLock(address.folder(cache) / LOCK_FILE):
            Mirror(client, address.bucket, text, folder).update(found)
    return root


@contextmanager
def _told(address: Address) -> Generator[None]:
    """Say in a line what boto3 has met."""
    # Here: boto3 takes half a second to import, and few sets lie on S3.
    from botocore import exceptions

    where = f"data={address.text!r}"
    try:
        yield
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise DataError(
            f"{where}: no credentials for S3 were found; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from error
    except exceptions.ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        kind = FailedError if status >= 500 else DataError
        raise kind(f"{where}: {_explain(address, error)}") from error
    except (exceptions.ProfileNotFound, exceptions.ParamValidationError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: {' '.join(str(error).split())[:300]}") from error
    except exceptions.BotoCoreError as error:
        raise FailedError(
            f"{where}: the server does not answer ({first_line(error)}); what was fetched is kept: "
            "the same command goes on"
        ) from error


def _explain(address: Address, error: Any) -> str:
    code = error.response["Error"]["Code"]
    match code:
        case "NoSuchBucket" | "404":
            return f"there is no bucket {address.bucket!r}"
        case "AccessDenied" | "403" | "AllAccessDisabled":
            return (
                "this machine may not read it: its credentials lack s3:ListBucket or s3:GetObject, "
                "or it has none and the bucket is not public"
            )
        case "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken":
            return f"S3 refuses the credentials ({code}); renew them"
        case "PreconditionFailed" | "412" | "NoSuchKey":
            return "an object changed while it was fetched; run the same command again"
        case "PermanentRedirect" | "301":
            return f"the bucket {address.bucket!r} is in another region; set AWS_REGION"
        case _:
            return f"S3 answers {code}: {first_line(error)}"


def _connect(address: Address) -> Client:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    session = boto3.Session(region_name=address.options.get("region"))
    # Without credentials a public bucket can be read nevertheless.
    signature = None if session.get_credentials() else UNSIGNED
    config = Config(
        signature_version=signature,
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard"},
        max_pool_connections=AT_ONCE,
    )
    return session.client("s3", endpoint_url=address.endpoint, config=config)


def _list(client: Client, address: Address) -> list[Remote]:
    """The objects under the address.

    Raises:
        DataError: there are none, or one's key leads out of the folder.
    """
    found: list[Remote] = []
    pages = client.get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=address.bucket, Prefix=address.prefix):
        for entry in page.get("Contents", ()):
            name = _name_below(address.prefix, entry["Key"])
            if name:
                found.append(Remote(entry["Key"], name, entry["Size"], entry["ETag"]))

    exact = [remote for remote in found if remote.key == address.prefix]
    found = exact or found
    if not found:
        raise DataError(
            f"data={address.text!r}: the bucket {address.bucket!r} has nothing under "
            f"{address.prefix + '/' if address.prefix else 'its root'!r}"
        )
    _check_names(address, found)
    return found


def _name_below(prefix: str, key: str) -> str:
    """A key as a path below the prefix; "" where it is not below it, or marks a folder."""
    if key.endswith("/"):
        return ""
    if key == prefix:
        return PurePosixPath(key).name
    if prefix and not key.startswith(f"{prefix}/"):
        return ""
    return key.removeprefix(f"{prefix}/") if prefix else key


def _check_names(address: Address, found: list[Remote]) -> None:
    """Raise DataError if a key cannot be a file's path in the cache."""
    bad: list[str] = []
    names = {remote.name for remote in found}
    for name in sorted(names):
        parts = name.split("/")
        above = {"/".join(parts[:end]) for end in range(1, len(parts))}
        odd = any(part in ("", ".", "..") or "\0" in part for part in parts)
        if odd or above & names or parts[0] in OURS:
            bad.append(name)
    if bad:
        raise DataError(
            f"data={address.text!r}: no file can be called as these keys: {first_of(bad, 10)}; "
            "rename them"
        )
