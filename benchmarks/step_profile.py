"""`python -m benchmarks.step_profile`: where the time of a training step goes, operation by
operation.

Writes docs/results/profile_cpu.md or profile_cuda.md.
"""

import time
from dataclasses import dataclass

from torch.profiler import ProfilerActivity, profile

from benchmarks.images import first_images
from benchmarks.results import RESULTS, Page, machine, versions_text
from benchmarks.train_speed import flops_per_image, matmul_flops_per_s, on_device
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.errors import one_of
from fmnist.recipes import RECIPES
from fmnist.training.device import Rank, default_device, resolve, set_threads
from fmnist.training.loop import start_training, train_epochs

STEPS = 40
SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """Profile the training steps of some recipes."""

    recipes: tuple[str, ...] = ("airnet-quick", "resnet20")
    steps: int = STEPS
    """Steps of the epoch that is profiled."""

    def __post_init__(self) -> None:
        for name in self.recipes:
            one_of("recipes", name, RECIPES)


def profile_epochs(
    config: TrainConfig, steps: int
) -> tuple[float, float, list[tuple[str, float, int]]]:
    """Train three epochs as they are, and one under the profiler, which slows it.

    Returns:
        images/s without the profiler; seconds of the epoch under it; and each operation's name,
        own time in µs and calls, the longest first.
    """
    device = default_device()
    data = first_images(steps * config.global_batch_size)
    epochs = train_epochs(config, data, Rank(device))
    # The best of three: the first compiles and warms up.
    speed = max(next(epochs)[0].images_per_s for _ in range(3))

    on_gpu = device.type == "cuda"
    kinds = [ProfilerActivity.CPU]
    if on_gpu:
        kinds.append(ProfilerActivity.CUDA)

    with profile(activities=kinds) as profiled:
        started = time.perf_counter()
        next(epochs)
        seconds = time.perf_counter() - started

    spent: list[tuple[str, float, int]] = []
    for event in profiled.key_averages():
        own_us = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        spent.append((event.key, own_us, event.count))

    spent.sort(key=lambda each: -each[1])
    return speed, seconds, spent


def add_section(page: Page, name: str, steps: int) -> None:
    """Profile one recipe, and add what was found."""
    device = default_device()
    config = resolve(RECIPES[name].config.replace(epochs=4, lr=1e-6, early_epochs=0), device)
    size = config.global_batch_size
    data = first_images(size)
    batch = on_device(data.train, device)
    flops = flops_per_image(start_training(config, data, device), batch)
    speed, seconds, spent = profile_epochs(config, steps)
    total_us = sum(own_us for _, own_us, _ in spent)
    peak = matmul_flops_per_s(config.precision, device)

    compiled = ", compiled" if config.compile else ""
    busy = ""
    if device.type == "cuda":
        share = total_us / 1e6 / seconds
        busy = f"Under the profiler the GPU computes for {share:.0%} of the time."

    page.heading(name)
    page.text(
        f"""{config.model}, {config.precision}, batch {size}{compiled}: {speed:,.0f} images/s,
        {1e3 * size / speed:.2f} ms a step, {speed * flops / peak:.0%} of the
        {peak / 1e12:,.2f} TFLOP/s of a large matrix product ({flops / 1e6:,.0f} MFLOP each).
        {busy}"""
    )
    cells: list[list[str]] = []
    for operation, own_us, calls in spent[:SHOWN]:
        cells.append([f"`{operation[:90]}`", f"{own_us / total_us:.1%}", f"{calls / steps:.1f}"])

    page.table("lrr", "operation | share | calls a step", cells)


def main(options: Options) -> None:
    device = default_device()
    set_threads(RECIPES[options.recipes[0]].config)
    where = machine("torch")
    page = Page("Where a training step's time goes")
    page.text(
        f"""`python -m benchmarks.step_profile --recipes {" ".join(options.recipes)}` on
        {where["machine"]}; {versions_text(where)}. Shares are of the operations' own time on the
        device, as PyTorch's profiler has it."""
    )
    for name in options.recipes:
        add_section(page, name, options.steps)

    if device.type == "cpu" and not (RESULTS / "profile_cuda.md").exists():
        page.not_measured({"gpu-94, small and best, into profile_cuda.md": "make gpu PART=profile"})
    page.write(f"profile_{device.type}")


if __name__ == "__main__":
    command(Options, main)
