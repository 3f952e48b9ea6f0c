"""How fast a bundle answers, by backend."""

from typing import Literal

Mode = Literal["single-stream", "server", "offline"]
