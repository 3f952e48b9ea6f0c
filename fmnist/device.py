"""What this process computes on: device, CPU threads, precision."""

import os
import platform
from functools import cache
from pathlib import Path

import torch

from fmnist.config import TrainConfig


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cpu_threads() -> int:
    """CPU threads that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The CPU's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
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

    Numbers below float32's normal range become 0 from here on. Adam with an L2 penalty shrinks the weights of dead units into that
    range, where a CPU computes up to a hundred times slower: a step of report D's network took 355 ms, and takes 21.
    """
    torch.set_flush_denormal(True)  # before there are threads: each takes the setting of the one that starts it
    torch.set_num_threads(config.threads or cpu_threads())


@cache
def has_bfloat16(device_type: str) -> bool:
    """Whether `cpu` or `cuda` computes in bfloat16, rather than emulates it."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def resolve(config: TrainConfig, device: torch.device) -> TrainConfig:
    """The config with `auto` decided for `device`: bf16 where the device computes in it rather than emulates it."""
    if config.precision != "auto":
        return config
    return config.replace(precision="bf16" if has_bfloat16(device.type) else "fp32")


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """The config's precision as a context; `auto` must have been resolved before."""
    assert config.precision != "auto", "resolve() the config first"
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
