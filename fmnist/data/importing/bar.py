"""A bar that shows how far an import has come, on standard error."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

SHOWN_EVERY_S = 0.1


class Bar:
    """Shows pictures, pictures/s and the time left; nothing where no terminal is.

    Args:
        what: what is done, such as "reading".
        total: pictures.
    """

    def __init__(self, what: str, total: int, console: Console) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            expand=True,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=total)
        self._started = time.monotonic()
        self._shown = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def advance(self) -> None:
        """One picture more. Drawing for each would cost more than reading a small one."""
        self.done += 1
        now = time.monotonic()
        if now - self._shown < SHOWN_EVERY_S:
            return
        self._shown = now
        rate = self.done / max(self.seconds, 1e-6)
        words = f"{self.what} {self.done:,}/{self.total:,}, {rate:,.0f} images/s"
        self._bar.update(self._task, completed=self.done, description=words)
