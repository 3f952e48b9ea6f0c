"""Ray Train's TorchTrainer with fewer processes: each imports PyTorch or Ray Train for seconds.

What Ray Train 2.60 starts besides the workers: an actor for its controller, one that removes the
placement group when that actor dies, one for Ray Data's shards, one that reserves machines of an
autoscaler, and one by which the workers wait for each other. We need the last, and the reservation
where machines may come.
"""

import asyncio
from typing import Any

import ray
import ray.train.torch

from cluster.connect import look
from cluster.ray_compat import (
    DatasetsCallback,
    FixedScalingPolicy,
    PlacementGroupCleanerCallback,
    TrainController,
    Worker,
    WorkerGroup,
)

UNNEEDED_CALLBACKS = (DatasetsCallback, PlacementGroupCleanerCallback)


class _WorkerGroup(WorkerGroup):
    def _init_train_context_on_workers(
        self, workers: list[Worker], sync_actor: Any, train_context_args: dict[str, list[Any]]
    ) -> None:
        started: list[Any] = []
        for rank, worker in enumerate(workers):
            own = {name: values[rank] for name, values in train_context_args.items()}
            started.append(
                worker.actor.init_train_context.remote(
                    train_run_context=self._train_run_context,
                    distributed_context=worker.distributed_context,
                    synchronization_actor=sync_actor,
                    storage_context=self._storage_context,
                    worker_callbacks=self._worker_callbacks_to_propagate,
                    # Workers ask it for Ray Train's own checkpoints, of which there are none.
                    controller_actor=None,
                    **own,
                )
            )
        ray.get(started)
        self._decorate_worker_log_file_paths(workers)


class _Controller(TrainController):
    worker_group_cls = _WorkerGroup
    stopping = False

    async def _run_control_loop_iteration(self) -> None:
        if self.stopping:
            raise asyncio.CancelledError
        await super()._run_control_loop_iteration()


class _NoMachinesToCome(FixedScalingPolicy):
    """A policy that reserves nothing."""

    def after_controller_start(self, train_run_context: Any) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


class Trainer(ray.train.torch.TorchTrainer):
    """A trainer whose controller runs in the process that calls fit().

    That process is a driver, whose placement groups Ray removes when it dies.
    """

    controller: _Controller | None = None

    def stop(self) -> None:
        """Let fit(), in another thread, raise CancelledError soon.

        It must not use a Ray that is gone.
        """
        if self.controller is not None:
            self.controller.stopping = True

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [one for one in callbacks if not isinstance(one, UNNEEDED_CALLBACKS)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        fixed = isinstance(arguments["scaling_policy"], FixedScalingPolicy)
        if fixed and not look().gpus_to_come:
            arguments["scaling_policy"] = _NoMachinesToCome(self.scaling_config)
        self.controller = _Controller(**arguments)
        asyncio.run(self.controller.run())
        return self.controller.get_result()
