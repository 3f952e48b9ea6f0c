"""How many CPU threads this process may use. Needs no PyTorch."""

import os


def cpu_threads() -> int:
    """Number of CPU threads that this process may use."""
    # Containers and taskset may grant fewer than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
