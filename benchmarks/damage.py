"""Damaged files, as Hypothesis draws them: bytes, JSON, and formats that guard themselves by
checksums, made right again so that what lies behind them is reached too.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

Draw = st.DrawFn

HEADER_BYTES = 64
DAMAGES = ("overwrite", "delete", "repeat", "insert", "cut", "number")
CHANGES = ("replace", "replace", "remove", "add", "nest")
NUMBERS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
"""Numbers at which something overflows."""
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from((0, -1, 2**31, 2**63, 10**12, 10**400))
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(("../../x", "/dev/zero", "nan", "\x00", "9" * 5000)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=6,
)
"""Any JSON value."""


@st.composite
def damaged(draw: Draw, whole: Sequence[bytes]) -> bytes:
    """One of the files with one to four pieces overwritten, cut out, repeated, put in or cut off,
    or set to a number of note."""
    content = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 4))):
        _damage_piece(draw, content)
    return bytes(content)


def _damage_piece(draw: Draw, content: bytearray) -> None:
    size = len(content)
    # Headers are where it matters: half of the damage is there.
    in_header = draw(st.booleans())
    at = draw(st.integers(0, min(size, HEADER_BYTES) if in_header else size))
    length = draw(st.integers(1, 16))

    match draw(st.sampled_from(DAMAGES)):
        case "overwrite":
            content[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        case "delete":
            del content[at : at + length]
        case "repeat":
            content[at:at] = content[at : at + length] * draw(st.integers(1, 64))
        case "insert":
            content[at:at] = draw(st.binary(max_size=16))
        case "cut":
            del content[at:]
        case _:
            number = draw(st.sampled_from(NUMBERS))
            byte_order = draw(st.sampled_from("<>"))
            content[at : at + 4] = struct.pack(f"{byte_order}I", number)


@st.composite
def damaged_json(draw: Draw, whole: Sequence[str]) -> bytes:
    """One of the documents with one to three values replaced, removed, added or nested deep; or
    its bytes damaged."""
    text = draw(st.sampled_from(whole))
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged([text.encode()]))
    document: Any = {"": json.loads(text)}
    for _ in range(draw(st.integers(1, 3))):
        _change_value(draw, document)

    return json.dumps(document[""]).encode()


def _change_value(draw: Draw, document: Any) -> None:
    """Change the document's one value, or one somewhere inside it."""
    parent: Any = document
    key: Any = ""
    while isinstance(child := parent[key], dict | list) and child and draw(st.integers(0, 3)):
        keys = list(child) if isinstance(child, dict) else list(range(len(child)))
        parent, key = child, draw(st.sampled_from(keys))

    match draw(st.sampled_from(CHANGES)):
        case "replace":
            parent[key] = draw(ANYTHING)
        case "remove" if parent is not document:
            del parent[key]
        case "add" if isinstance(parent[key], dict):
            parent[key][draw(st.text(max_size=12))] = draw(ANYTHING)
        case "add" if isinstance(parent[key], list):
            parent[key].append(draw(ANYTHING))
        case _:
            for _ in range(draw(st.sampled_from((1, 3, 200)))):
                parent[key] = [parent[key]]


def deep_json() -> bytes:
    return b"[" * 200_000


def many_dimensions() -> bytes:
    """An IDX file whose sizes multiply to 2^64, and one byte of every dimension there can be."""
    return struct.pack(">BBBB", 0, 0, 8, 255) + struct.pack(">255I", *([2**8] * 8), *([1] * 247))


def repaired_png(content: bytes) -> bytes:
    """The CRC of every chunk made right, as far as there are chunks."""
    at, done = 8, bytearray(content[:8])
    while at + 12 <= len(content):
        # A chunk is its length, its kind and body, and a CRC of both.
        length = struct.unpack(">I", content[at : at + 4])[0]
        body = content[at + 4 : at + 8 + length]
        done += content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length

    return bytes(done + content[at:])


def repaired_state(pickled: bytes, whole: bytes) -> bytes:
    """A torch.save file with another pickle in it, and the checksums of that."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as before, zipfile.ZipFile(buffer, "w") as after:
        for name in before.namelist():
            after.writestr(name, pickled if name.endswith("data.pkl") else before.read(name))
    return buffer.getvalue()
