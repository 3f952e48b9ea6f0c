"""What this process computes on: device, CPU threads, precision."""

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from fmnist.config import TrainConfig
from fmnist.runs.threads import cpu_threads

LARGEST_REUSED = 2**25 - 2**16
"""Bytes: nearly the largest that glibc takes for its threshold, 32 MiB."""
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Rank:
    """Where one process of a training computes, and which share of each batch is its own."""

    device: torch.device
    rank: int = 0
    world_size: int = 1


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def processor() -> str:
    """The CPU's name, where the system tells."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def hardware() -> str:
    """What this machine computes on, in words."""
    if default_device().type == "cuda":
        return torch.cuda.get_device_name()
    threads = cpu_threads()
    return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"


def set_threads(config: TrainConfig) -> None:
    """Set the CPU threads of this process, once, before its first work.

    Numbers below float32's normal range become 0 from here on. Adam with an L2 penalty shrinks the
    weights of dead units into that range, where a CPU computes up to a hundred times slower: a step
    of report D's network took 355 ms, and takes 21.
    """
    # Before there are threads: each takes the setting of the one that starts it.
    torch.set_flush_denormal(True)
    torch.set_num_threads(config.threads or cpu_threads())
    _reuse_memory()


def _reuse_memory() -> None:
    """Let glibc keep the memory of a step's activations for the next step.

    It maps large blocks afresh, and each page anew costs a fault: a sixth of the time of a small
    network. Once a block is freed it maps larger ones only (mallopt(3), M_MMAP_THRESHOLD, dynamic).
    """
    torch.empty(LARGEST_REUSED, dtype=torch.uint8)


@cache
def has_bfloat16(device_type: str) -> bool:
    """Whether `cpu` or `cuda` computes in bfloat16, rather than emulates it."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def resolve(config: TrainConfig, device: torch.device) -> TrainConfig:
    """Decide precision `auto`: bf16 where the device computes in it rather than emulates it."""
    if config.precision != "auto":
        return config
    return config.replace(precision="bf16" if has_bfloat16(device.type) else "fp32")


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """The config's precision as a context; `auto` must have been resolved before."""
    assert config.precision != "auto", "resolve() the config first"
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
