"""Training and evaluation on workers of a Ray cluster; the only file here that imports ray.

Ray Train starts the workers, makes their process group and starts all of them anew when one is lost; our
checkpoints do the rest, so the folder of the run has to be one that all workers see. What is trained does not
depend on how it was started.
"""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from focuspull.dataset.errors import UserError
from focuspull.train.loop import num_passes
from focuspull.train.recipe import Recipe
from focuspull.train.run import RunOptions, train, trained
from focuspull.train.stages import StageName

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

CONNECT_S = 5.0
"""After which a cluster that does not answer is none."""


def train_on_ray(
    recipe: Recipe,
    options: RunOptions,
    stages: tuple[StageName, ...] | None,
    num_workers: int,
    address: str,
    max_failures: int,
) -> Path:
    """Train on a Ray cluster.

    Args:
        recipe: The recipe.
        options: Of the run; ``out`` and local ``data`` are seen by all workers.
        stages: Which stages; None: all.
        num_workers: Processes, each with a GPU unless ``options.device`` is ``cpu``.
        address: Of the cluster; ``auto`` for the one of this machine, ``local`` to start one.
        max_failures: How many times lost workers are replaced.

    Returns:
        As `focuspull.train.run.train` does.

    Raises:
        UserError: As there, and if there is no Ray Train or no such cluster.
    """
    num_passes(recipe, num_workers)
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise UserError(
            f"--ray: Ray Train is not installed ({error.name}). pip install 'ray[train]'"
        ) from error
    _connect(ray, address, option="--ray-address")
    use_gpu = options.device != "cpu"
    # Folders are seen under their full names only: workers start elsewhere.
    here = options.seen_from_anywhere()
    settings = {
        "recipe": recipe.model_dump_json(),
        "options": here.model_dump_json(),
        "stages": stages,
    }
    trainer = TorchTrainer(
        _work,
        train_loop_config=settings,
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu),
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        run_config=RunConfig(
            name="ray", storage_path=str(here.out), failure_config=FailureConfig(max_failures=max_failures)
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise UserError(_line(error)) from error
    finally:
        ray.shutdown()
    return trained(recipe, here, stages)


def _work(settings: dict[str, Any]) -> None:
    """What every worker does."""
    train(
        Recipe.model_validate_json(settings["recipe"]),
        RunOptions.model_validate_json(settings["options"]),
        settings["stages"],
    )


def _line(error: Exception) -> str:
    """What a worker has said to its user, or else the last line of what has ended it."""
    cause: BaseException | None = error
    lines: list[str] = []
    while cause is not None:
        lines += [line.strip() for line in str(cause).splitlines() if line.strip()]
        cause = cause.__cause__
    said = [line for line in lines if "UserError: " in line]
    if said:
        return said[-1].partition("UserError: ")[2]
    return f"--ray: the workers ended: {lines[-1] if lines else type(error).__name__}"


class TasksOnRay:
    """Independent tasks on the workers of a Ray cluster, or of one that is started on this machine.

    A worker keeps what it has opened (corpora, networks) from one task to the next. A task whose worker dies
    is tried once more, then named; the others go on.

    Args:
        address: Of the cluster; ``local`` to start one here.
        workers: How many tasks run at once, on this machine.
        gpus: Of each task.

    Raises:
        UserError: If there is no Ray, or no such cluster.
    """

    def __init__(self, address: str, workers: int, gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError(f"--workers: Ray is not installed ({error.name}). pip install ray") from error
        # Ray's default, /tmp/ray, belongs to the machine's first user. In it are sockets, which need short
        # paths.
        self._folder = tempfile.mkdtemp(prefix="focuspull-eval-", dir="/tmp")
        start = {"num_cpus": workers, "include_dashboard": False, "_temp_dir": self._folder}
        _connect(ray, address, option="--address", **start)
        self._ray = ray
        self._workers = workers
        self._gpus = gpus

    def run(
        self, function: Callable[[TaskT], ResultT], tasks: Sequence[TaskT]
    ) -> Iterator[tuple[int, ResultT | UserError]]:
        """Each task's number and what came out, in the order in which they end.

        Args:
            function: At the top level of a module that workers can import.
            tasks: Its arguments.
        """
        ray = self._ray
        remote = ray.remote(function).options(num_cpus=1, num_gpus=self._gpus, max_retries=1)
        waiting = list(enumerate(tasks))[::-1]
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < 2 * self._workers:
                number, task = waiting.pop()
                running[remote.remote(task)] = number
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(done)
            try:
                yield number, ray.get(done)
            except Exception as error:
                yield number, UserError(_line(error))

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._ray.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)


def _connect(ray: Any, address: str, *, option: str, **start: Any) -> None:
    """Join a cluster, or start one here with the options ``start`` if the address is ``local``.

    Raises:
        UserError: If no cluster answers.
    """
    try:
        host, colon, port = address.rpartition(":")
        if colon and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host.rpartition("/")[2], int(port)), timeout=CONNECT_S).close()
        given = start if address == "local" else {}
        ray.init(address=address, log_to_driver=True, logging_level=logging.WARNING, **given)
    except OSError as error:  # which a ConnectionError is
        raise UserError(
            f"{option} {address}: no Ray cluster answers there. Start one, or give local."
        ) from error
