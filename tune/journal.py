"""Files of JSON lines that outlive a crash; one is the journal of a search: a line for each start, report and end."""

import json
import os
from pathlib import Path
from typing import Any

from fmnist.errors import InputError

JOURNAL = "search/journal.jsonl"
TRIALS = "search/trials.jsonl"
"""A line for each trial that is done, written from the journal."""
Event = dict[str, Any]


def read_events(path: Path) -> list[Event]:
    """What a file holds; a last line cut short by a crash is left out. Raises InputError if another line is damaged."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    found: list[Event] = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}; mend or remove that line, or start another run") from error
    return found


class Journal:
    """Appends events; each is synced to the disk before `append` returns, so it outlives a kill -9 and a power cut."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        self.file = path.open("ab")
        self.file.truncate(content.rfind(b"\n") + 1)  # what is appended to half a line would be lost with it

    def append(self, event: Event) -> None:
        self.file.write(json.dumps(event).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
