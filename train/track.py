"""What a run writes while it learns: JSON lines always, TensorBoard unless told not to, W&B if told to.

    with Tracker(folder) as tracker:
        tracker.log(10, {"train/total": 0.1})
        tracker.image(10, "val/grid", path)

A run that goes on from a checkpoint forgets what it had logged after it.
"""

from __future__ import annotations

import json
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

PEAK_TFLOPS = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "RTX 4090": 165.0,
    "RTX 5090": 209.0,
}
"""Dense bfloat16 with float32 sums, by a part of the device's name, first match; vendors' data sheets."""


class Tracker:
    """Logs of one stage; written by one process.

    Args:
        folder: Of the stage.
        tensorboard: Whether to write ``tensorboard/``.
        wandb: Weights & Biases project; None: not used.
        start_step: Step that the run goes on from; what was logged of later ones is forgotten.
        config: For W&B.

    Raises:
        UserError: If a package is missing, or the log cannot be written.
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
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG
        if path.exists():
            write_atomic(path, "".join(_lines_until(path, start_step)).encode())
        self._file = path.open("a", encoding="utf-8")
        self._started = time.time()
        self._board = _open_board(folder / "tensorboard", start_step) if tensorboard else None
        self._wandb = _open_wandb(folder, wandb, config or {}) if wandb else None

    def log(self, step: int, values: Mapping[str, float | int | str | None]) -> None:
        """Write values of a step; None where there is none."""
        facts = {"step": step, "time_s": round(time.time() - self._started, 3)}
        self._file.write(json.dumps({**facts, **values}) + "\n")
        self._file.flush()
        numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)

    def image(self, step: int, name: str, path: Path) -> None:
        """Show a picture that was written."""
        if self._board is not None:
            import numpy as np
            from PIL import Image

            with Image.open(path) as picture:
                self._board.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        if self._wandb is not None:
            import wandb

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


def _lines_until(path: Path, step: int) -> list[str]:
    """Whole lines of a log up to a step; one that a kill has cut short is none."""
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    return kept


def _open_board(folder: Path, start_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "tensorboard is not installed. pip install tensorboard, or give --no-tensorboard."
        ) from error
    return SummaryWriter(str(folder), purge_step=start_step + 1)


def _open_wandb(folder: Path, project: str, config: Mapping[str, Any]) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(f"--wandb {project}: wandb is not installed. pip install wandb") from error
    path = folder / "wandb-id"
    run = wandb.init(
        project=project,
        dir=str(folder),
        id=path.read_text().strip() if path.exists() else None,
        resume="allow",
        config=dict(config),
    )
    write_atomic(path, f"{run.id}\n".encode())
    return run


def known_peak(device: torch.device) -> float | None:
    """What a GPU could do at best, from `PEAK_TFLOPS`; None if it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


class Throughput:
    """Speed and memory of a process since values were last asked for.

    Args:
        samples_per_step: Of all processes.
        num_frames: Of a sample.
        flops_per_step: Of this process; None if not counted.
        peak_tflops: Of the device; None: as `known_peak` has it.
        device: Where it computes.
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
        """Count a step, of which the process waited some time for data."""
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
        elapsed = time.perf_counter() - self._started
        values: dict[str, float | None] = {
            "memory/peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        if on_gpu:
            values["memory/peak_gpu_gib"] = torch.cuda.max_memory_allocated(self._device) / 2**30
        if self._steps:
            per_s = self._steps * self._samples / elapsed
            step_s = elapsed / self._steps
            values["speed/step_s"] = step_s
            values["speed/samples_per_s"] = per_s
            values["speed/frames_per_s"] = per_s * self._num_frames
            values["speed/waiting_for_data"] = self._waited_s / elapsed
            values["speed/mfu"] = None
            if self._flops is not None and self._peak is not None:
                values["speed/mfu"] = self._flops / step_s / (self._peak * 1e12)
        self.restart()
        return values
