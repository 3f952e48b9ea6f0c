"""`python -m benchmarks.step_profile`: where the time of a training step goes, operation by operation.

Writes docs/results/profile_cpu.md or profile_cuda.md.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from torch.profiler import ProfilerActivity, profile

from benchmarks.pages import unmeasured
from benchmarks.train_speed import flops_per_image, matmul_peak
from fmnist.cli import command
from fmnist.data import Split, find_data, load_info, load_train
from fmnist.device import default_device, hardware, resolve, set_threads
from fmnist.errors import one_of
from fmnist.loop import start_training, train_epochs
from fmnist.recipes import RECIPES
from fmnist.run import environment, write_atomic

RESULTS = Path("docs/results")
STEPS = 40
SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """Profile the training steps of some recipes."""

    recipes: tuple[str, ...] = ("airnet-quick", "resnet20")

    def __post_init__(self) -> None:
        for name in self.recipes:
            one_of("recipes", name, RECIPES)


def section(name: str, everything: Split) -> list[str]:
    """One recipe: an epoch of STEPS steps as it is, and one under the profiler, which slows it."""
    device = default_device()
    config = resolve(RECIPES[name].config.replace(epochs=4, lr=1e-6, early_epochs=0), device)
    few = Split(*(each[: STEPS * config.global_batch_size] for each in (everything.images, everything.labels)))
    batch = Split(few.images[: config.global_batch_size].to(device), few.labels[: config.global_batch_size].to(device))
    flops = flops_per_image(start_training(config, few, 10, device), batch)
    epochs = train_epochs(config, few, classes=10, device=device)
    speed = max(next(epochs)[0].images_per_s for _ in range(3))
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=kinds) as profiled:
        started = time.perf_counter()
        next(epochs)
        seconds = time.perf_counter() - started
    cuda = device.type == "cuda"
    spent = sorted(
        ((event.self_device_time_total if cuda else event.self_cpu_time_total, event) for event in profiled.key_averages()),
        key=lambda each: -each[0],
    )
    total, busy = sum(time for time, _ in spent), sum(time for time, _ in spent) / 1e6 / seconds
    peak = matmul_peak(config.precision, device)
    lines = [
        f"## {name}",
        "",
        f"{config.model}, {config.precision}, batch {config.global_batch_size}{', compiled' if config.compile else ''}: "
        f"{speed:,.0f} images/s, {1e3 * config.global_batch_size / speed:.2f} ms a step,",
        f"{speed * flops / peak:.0%} of the {peak / 1e12:,.2f} TFLOP/s of a large matrix product ({flops / 1e6:,.0f} MFLOP each)."
        + (f" Under the profiler the GPU computes for {busy:.0%} of the time." if cuda else ""),
        "",
        "| operation | share | calls a step |",
        "|---|---:|---:|",
    ]
    lines += [f"| `{event.key[:90]}` | {time / total:.1%} | {event.count / STEPS:.1f} |" for time, event in spent[:SHOWN]]
    return [*lines, ""]


def main(options: Options) -> None:
    console = Console(highlight=False, soft_wrap=True)
    folder = find_data()
    everything = load_train(folder, load_info(folder))
    set_threads(RECIPES[options.recipes[0]].config)
    versions = environment()["versions"]
    lines = [
        "# Where a training step's time goes",
        "",
        f"`python -m benchmarks.step_profile --recipes {' '.join(options.recipes)}` on {hardware()};",
        f"python {versions['python']}, torch {versions['torch']}.",
        "Shares are of the operations' own time on the device, as PyTorch's profiler has it.",
        "",
    ]
    for name in options.recipes:
        lines += section(name, everything)
    if not (RESULTS / "profile_cuda.md").exists() and default_device().type == "cpu":
        lines += [*unmeasured({"gpu-94, small and best, into profile_cuda.md": "make gpu PART=9"})[1:], ""]
    target = RESULTS / f"profile_{default_device().type}.md"
    write_atomic(target, "\n".join(lines))
    console.print("\n".join(lines), markup=False)
    console.print(f"written: {target}")


if __name__ == "__main__":
    command(Options, main)
