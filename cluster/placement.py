"""How many workers a job gets, and what each of them takes. Needs neither Ray nor PyTorch."""

from dataclasses import dataclass

from fmnist.cli import plural
from fmnist.errors import check


@dataclass(frozen=True, slots=True)
class Resources:
    """What a cluster offers."""

    node_cpus: tuple[int, ...]
    """CPU threads of each node."""
    gpus: int = 0
    gpus_to_come: int = 0
    """GPUs that the autoscaler would add if asked."""

    @property
    def gpus_ever(self) -> int:
        return self.gpus + self.gpus_to_come

    @property
    def nodes(self) -> int:
        return len(self.node_cpus)

    @property
    def cpus(self) -> int:
        return sum(self.node_cpus)

    def __str__(self) -> str:
        nodes = f"{self.nodes} nodes, " if self.nodes > 1 else ""
        to_come = f" (and {self.gpus_to_come} if asked for)" if self.gpus_to_come else ""
        return f"{nodes}{self.cpus} CPU threads, {self.gpus} GPUs{to_come}"


@dataclass(frozen=True, slots=True)
class Placement:
    """How many workers, and what each takes."""

    workers: int
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0
    min_workers: int = 0
    """An elastic job goes on with as few; 0 means not elastic."""

    @property
    def share(self) -> dict[str, float]:
        """What a worker takes, as Ray names it."""
        share: dict[str, float] = {"CPU": self.cpus_per_worker}
        if self.gpus_per_worker:
            share["GPU"] = self.gpus_per_worker
        return share

    @property
    def sizes(self) -> range:
        """The numbers of workers that there may be."""
        return range(self.min_workers or self.workers, self.workers + 1)

    def __str__(self) -> str:
        if not self.gpus_per_worker:
            share = plural(self.cpus_per_worker, "CPU thread")
        elif self.gpus_per_worker == 1:
            share = "a GPU"
        else:
            share = f"{self.gpus_per_worker:g} of a GPU"

        workers = plural(self.workers, "worker")
        if self.min_workers:
            workers = f"{self.min_workers} to {workers}"
        each = " each" if self.workers > 1 else ""
        return f"{workers} with {share}{each}"


def parse_workers(text: str) -> tuple[int, int]:
    """Fewest and most workers of "N" or "MIN:MAX"; (0, 0) of an empty text.

    Raises:
        InputError: it is neither.
    """
    if not text:
        return 0, 0
    low, colon, high = text.partition(":")
    high = high if colon else low
    numbers = low.isdecimal() and high.isdecimal()
    check(
        numbers and int(low) <= int(high) and (int(low) >= 1 or not colon),
        f"workers={text!r}: give a number, or MIN:MAX with 1 <= MIN <= MAX",
    )
    return int(low), int(high)


def place(
    resources: Resources,
    workers: str = "",
    gpus_per_worker: float | None = None,
    global_batch_size: int = 0,
) -> Placement:
    """Give each GPU a worker; on a cluster without GPUs each node, with all its CPU threads.

    Args:
        resources: what the cluster offers.
        workers: N, MIN:MAX or nothing, which takes what there is and shares the batch evenly.
        gpus_per_worker: by default 1 where there are GPUs; 0 trains on CPUs.
        global_batch_size: it must be a multiple of every number of workers that there may be; 0 is
            not looked at.

    Raises:
        InputError: more workers than the cluster will ever have room for, or a batch that cannot
            be shared.
    """
    low, high = parse_workers(workers)
    gpus = _gpus_per_worker(resources, gpus_per_worker, high)
    if gpus:
        check(
            low <= resources.gpus_ever,
            f"workers={workers}: the cluster has {resources}, and each worker takes one GPU",
        )
        most, cpus = high or max(resources.gpus, 1), 1
    else:
        check(
            low <= resources.cpus,
            f"workers={workers}: the cluster has {resources}, and each worker takes one CPU thread",
        )
        most = high or sum(threads > 0 for threads in resources.node_cpus)
        cpus = _cpus_per_worker(resources, most)

    if not high and global_batch_size:
        return Placement(_largest_divisor(global_batch_size, most), cpus, gpus)
    placement = Placement(most, cpus, gpus, min_workers=low if low < high else 0)
    if global_batch_size:
        for count in placement.sizes:
            check(
                global_batch_size % count == 0,
                f"global_batch_size={global_batch_size}: it must be a multiple of the {count} "
                "workers",
            )
    return placement


def _gpus_per_worker(resources: Resources, asked: float | None, most_workers: int) -> float:
    """Raise InputError unless the cluster has such a share of a GPU for each worker."""
    if asked is None:
        return 1 if resources.gpus_ever else 0
    check(
        0 <= asked <= 1,
        f"gpus_per_worker={asked:g}: a worker computes on one GPU at most; give 0 to 1, and more "
        "workers",
    )
    check(
        asked in (0, 1) or most_workers <= 1,
        f"gpus_per_worker={asked:g}: NCCL refuses two workers on one GPU; take 1, or one worker",
    )
    check(
        not asked or resources.gpus_ever > 0,
        f"gpus_per_worker={asked:g}: the cluster has {resources}; give 0 to train on CPUs",
    )
    return asked


def _cpus_per_worker(resources: Resources, workers: int) -> int:
    """The most CPU threads at which so many workers fit on the nodes."""
    wanted = min(workers, resources.cpus)
    for share in range(max(resources.node_cpus), 1, -1):
        fitting = sum(threads // share for threads in resources.node_cpus)
        if fitting >= wanted:
            return share
    return 1


def _largest_divisor(number: int, most: int) -> int:
    for divisor in range(most, 1, -1):
        if number % divisor == 0:
            return divisor
    return 1
