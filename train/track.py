"""What a run writes while it learns: JSON lines always, TensorBoard unless told not to, W&B if told to.

    with Tracker(folder) as tracker:
        tracker.log(10, {"train/total": 0.1})
        tracker.image(10, "val/grid", path)

A run that goes on from a checkpoint forgets what it had logged after it. Packages are imported when they are
first needed. W&B works offline too, with ``WANDB_MODE=offline``.
"""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic

LOG = "log.jsonl"
BOARD = "tensorboard"
WANDB_ID = "wandb-id"

PEAK_TFLOPS = {
    "NVIDIA H200": 989.0,
    "NVIDIA H100 80GB HBM3": 989.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA A100-PCIE-40GB": 312.0,
    "NVIDIA A100 80GB PCIe": 312.0,
    "NVIDIA L40S": 362.0,
    "NVIDIA GeForce RTX 4090": 165.0,
    "NVIDIA GeForce RTX 5090": 209.0,
}
"""Bfloat16 without sparsity, summed in float32 (NVIDIA's data sheets; for GeForce the white papers of their
architectures), by the whole name: others that only begin alike (laptops, NVL, parts of a GPU) do less."""


class Tracker:
    """Logs of one stage; written by one process.

    Args:
        folder: Of the stage.
        tensorboard: Whether to write ``tensorboard/``.
        wandb: Weights & Biases project; None: not used. Its run is that of the folder, if it has one already.
        start_step: Step that the run goes on from; what was logged of later ones is forgotten, but by W&B,
            which leaves out what comes again. 0 begins anew.
        config: For W&B.

    Raises:
        UserError: If a package is missing, W&B refuses, or the log cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tensorboard: bool = True,
        wandb: str | None = None,
        start_step: int = 0,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = folder / LOG
        self._board = _open_board(folder / BOARD, start_step) if tensorboard else None
        self._wandb = None if wandb is None else _open_wandb(folder, wandb, config or {})
        write_atomic(self._path, _until(self._path, start_step))
        self._file = self._path.open("ab", buffering=0)

    def log(self, step: int, values: Mapping[str, float | int | str | None]) -> None:
        """Write values of a step, a line of JSON with ``step`` and ``time_s``, seconds since 1970.

        Args:
            step: Optimiser steps that are done.
            values: By name; None where there is none. Of these TensorBoard and W&B get the numbers. Those
                that are not finite, which JSON has not, are text in the line: ``"nan"``, ``"inf"``.

        Raises:
            UserError: If the operating system refuses.
        """
        facts = {"step": step, "time_s": round(time.time(), 3)}
        written = {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        self._write(json.dumps(facts | written, allow_nan=False).encode() + b"\n")
        numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)

    def image(self, step: int, name: str, path: Path) -> None:
        """Show a picture that was written, where pictures can be shown.

        Args:
            step: Optimiser steps that are done.
            name: Of the picture; the same at every step.
            path: The PNG.
        """
        if self._board is not None:
            import numpy as np
            from PIL import Image

            with Image.open(path) as picture:
                self._board.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        if self._wandb is not None:
            import wandb  # pyright: ignore[reportMissingImports]

            self._wandb.log({name: wandb.Image(str(path))}, step=step)

    def close(self) -> None:
        """Write what is left."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written: {error.strerror}. Mend that and run it again."
            ) from error


def _until(path: Path, step: int) -> bytes:
    """Lines of a log up to a step, but for what a kill has left of a last one; nothing for step 0."""
    if step == 0:
        return b""
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. Move it away.") from error
    kept = []
    for number, line in enumerate(lines, 1):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + b"\n")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}: is not one of a log, which is JSON with a step. Remove the line."
            ) from error
    return b"".join(kept)


def _open_board(folder: Path, start_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "tensorboard is not installed. pip install tensorboard, or give --no-tensorboard."
        ) from error
    return SummaryWriter(str(folder), purge_step=start_step + 1 if start_step else 0)


def _open_wandb(folder: Path, project: str, config: Mapping[str, Any]) -> Any:
    try:
        import wandb  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"--wandb {project}: wandb is not installed. pip install wandb") from error
    path = folder / WANDB_ID
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run = wandb.init(
            project=project,
            dir=str(folder),
            id=path.read_text(encoding="utf-8").strip() if path.exists() else None,
            resume="allow",
            config=dict(config),
        )
    except wandb.Error as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"--wandb {project}: {reason}. Run wandb login, or set WANDB_MODE=offline."
        ) from error
    write_atomic(path, f"{run.id}\n".encode())
    return run


def known_peak(device: torch.device) -> float | None:
    """TFLOP/s that a GPU can do at best, from `PEAK_TFLOPS`; None if it is not known."""
    if device.type != "cuda":
        return None
    return PEAK_TFLOPS.get(torch.cuda.get_device_name(device))


class Throughput:
    """Speed of a run since values were last asked for, and memory of a process since it began.

    Args:
        samples_per_step: Of all processes.
        num_frames: Of a sample.
        flops_per_step: Floating-point operations of this process; None if not counted.
        device: Where it computes.
        peak_tflops: Of the device; None: as `known_peak` has it.
    """

    def __init__(
        self,
        *,
        samples_per_step: int,
        num_frames: int,
        flops_per_step: float | None,
        device: torch.device,
        peak_tflops: float | None = None,
    ) -> None:
        self._samples, self._num_frames = samples_per_step, num_frames
        self._flops = flops_per_step
        self._peak = known_peak(device) if peak_tflops is None else peak_tflops
        self._device = device
        self.restart()

    def restart(self) -> None:
        """Forget what was measured, after something else has taken time."""
        self._steps = 0
        self._waited_s = 0.0
        self._started = time.perf_counter()

    def step(self, waited_s: float) -> None:
        """Count a step.

        Args:
            waited_s: What of its time the process waited for data, seconds.
        """
        self._steps += 1
        self._waited_s += waited_s

    def values(self) -> dict[str, float | None]:
        """Values by name for a log; None for what is not known. Starts anew.

        ``speed/mfu`` is the share of the device's peak that the floating-point operations of the networks
        take, those of recomputation not counted (Chowdhery et al., "PaLM", 2022, appendix B).
        """
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(self._device)
        elapsed_s = time.perf_counter() - self._started
        # Linux counts in KiB.
        values: dict[str, float | None] = {
            "memory/peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        if on_gpu:
            values["memory/peak_gpu_gib"] = torch.cuda.max_memory_allocated(self._device) / 2**30
        if self._steps:
            step_s = elapsed_s / self._steps
            values["speed/step_s"] = step_s
            values["speed/samples_per_s"] = self._samples / step_s
            values["speed/frames_per_s"] = self._samples * self._num_frames / step_s
            values["speed/waiting_for_data"] = self._waited_s / elapsed_s
            values["speed/mfu"] = None
            if self._flops is not None and self._peak is not None:
                values["speed/mfu"] = self._flops / step_s / (self._peak * 1e12)
        self.restart()
        return values
