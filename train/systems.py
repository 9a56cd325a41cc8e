"""What can be evaluated: renderers without weights, our networks, published systems, predictions.

A `SystemSpec` is a few words that travel to other processes; `open_system` turns it into a `Predictor` there.
What a system is given is the all-in-focus video, disparity, K and d_f, never the truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.errors import UserError
from focuspull.model.adapters.config import adapter_names, load_adapter
from focuspull.model.adapters.process import Adapter
from focuspull.model.adapters.self_test import SelfTest, self_test
from focuspull.model.pipeline import AnyToBokeh, Fuse
from focuspull.model.renderer import RENDERERS, BokehRenderer, get_renderer, renderer_names
from focuspull.train.metrics.base import Truth
from focuspull.train.predictions import open_predictions, predictions_fingerprint, read_prediction
from focuspull.train.results import SystemInfo

OURS = "Any-to-Bokeh"
"""The published row that a network of ours stands beside."""
PUBLISHED = {
    "deeplens": "DeepLens",
    "bokehdiff": "BokehDiff",
    "bokehme": "BokehMe",
    "drbokeh": "Dr.Bokeh",
    "mpib": "MPIB",
    "any_to_bokeh_official": OURS,
}
"""The published row of each adapter."""
MIN_MISFIT = 0.01
"""Of K, below which a row with another K would say nothing."""
Kind = Literal["renderer", "network", "predictions", "adapter"]


class SystemSpec(FrozenModel):
    """What to evaluate.

    Args:
        name: Of its row.
        kind: What it is.
        path: Folder of weights or of predictions, file of adapters; None for renderers.
        member: Name within the file of adapters.
        k_factor: What K is multiplied with before it is given to the system: 1 is its raw behaviour.
        fuse: How windows of a network are put together.
    """

    name: str
    kind: Kind
    path: Path | None = None
    member: str | None = None
    k_factor: float = 1.0
    fuse: Fuse = "latent"


class Predictor:
    """An opened system.

    Args:
        spec: What was opened.
        run: Makes a video; gets the truth for its name, size and inputs, and the disparity to use.
        info: What to print of it.
        renderer: What it renders with, if it does.
    """

    def __init__(
        self,
        spec: SystemSpec,
        run: Callable[[Truth, Tensor], Tensor],
        info: SystemInfo,
        renderer: BokehRenderer | None = None,
    ) -> None:
        self.spec = spec
        self.info = info
        self.renderer = renderer
        self._run = run

    def __call__(self, truth: Truth, disparity: Tensor) -> Tensor:
        """Make a bokeh video.

        Args:
            truth: Of which only the inputs are used.
            disparity: ``[T, 1, H, W]``, exact or corrupted.

        Returns:
            ``[T, 3, H, W]`` float32 on the CPU, in [0, 1], rounded to 8 bits as a stored video would be.

        Raises:
            UserError: If the system does not deliver: one line.
        """
        made = self._run(truth, disparity).detach().float().cpu()
        if made.shape != truth.bokeh.shape:
            raise UserError(
                f"{self.spec.name}: made {list(made.shape)} of a video of {list(truth.bokeh.shape)}."
            )
        if not bool(made.isfinite().all()):
            bad = int((~made.isfinite()).sum())
            raise UserError(f"{self.spec.name}: {bad} values of the video are not finite.")
        return (made.clamp(0, 1) * 255).round() / 255


def parse_systems(text: str) -> list[SystemSpec]:
    """Renderers by name, separated by commas; ``all`` for every one without weights.

    Raises:
        UserError: If a name is not known, or needs more than a name.
    """
    names: list[str] = []
    for name in text.split(","):
        names += renderer_names() if name == "all" else [name]
    for name in names:
        if name not in RENDERERS:
            known = ", ".join(renderer_names())
            raise UserError(f"--systems {name}: there is no such renderer. There are: {known}; or all.")
        if RENDERERS[name].needs:
            raise UserError(
                f"--systems {name}: needs {RENDERERS[name].needs[0]}. Give --network NAME=FOLDER instead."
            )
    return [SystemSpec(name=name, kind="renderer") for name in dict.fromkeys(names)]


def adapter_systems(path: Path, *, fitted: bool, say: Callable[[str], None]) -> list[SystemSpec]:
    """Published systems in the user's checkouts, each raw and, if that differs, with the K that fits.

    Args:
        path: File of `focuspull.model.adapters.config`.
        fitted: Whether to find the factor on K that fits best, by a point of light, and to add a row with it.
        say: Takes lines: what was found, and why a system has no second row.

    Raises:
        UserError: If the file cannot be read.
    """
    systems: list[SystemSpec] = []
    for name in adapter_names(path):
        systems.append(SystemSpec(name=name, kind="adapter", path=path, member=name))
        if not fitted:
            continue
        try:
            with load_adapter(path, name) as adapter:
                test = probe_renderer(adapter)
        except UserError as error:
            say(f"{name}: its K could not be fitted: {error}")
            continue
        say(f"{name}: {self_test_line(test)}")
        # Any-to-Bokeh's authors trained with whole K only.
        if abs(test.factor - 1) > MIN_MISFIT and not adapter.system.takes_clips:
            factor = round(test.factor, 4)
            systems.append(
                SystemSpec(name=f"{name} (fitted K)", kind="adapter", path=path, member=name, k_factor=factor)
            )
    return systems


def probe_renderer(renderer: BokehRenderer) -> SelfTest:
    """The self-test of `focuspull.model.adapters.self_test`, as a renderer can take it.

    Raises:
        UserError: If it does not blur at all, or cannot be run.
    """
    system = renderer.system if isinstance(renderer, Adapter) else None
    clips = system is not None and system.takes_clips
    try:
        return self_test(
            renderer,
            size=(144, 256) if clips else (128, 128),
            num_frames=13 if clips else 1,
            light_px=5 if clips else 1,
            domain="linear" if system is None else system.blurs,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error


def self_test_line(test: SelfTest) -> str:
    """What a self-test has found, for people."""
    return (
        f"radii are off by {test.worst_px:.2f} px at most, by {test.worst_fitted_px:.2f} px with K times "
        f"{test.factor:.3f}"
    )


def unique(systems: Sequence[SystemSpec]) -> list[SystemSpec]:
    """The same, if no two have one name.

    Raises:
        UserError: If two have, if there is none, or a name cannot be that of a file.
    """
    if not systems:
        raise UserError("no system was given. Give --systems, --network, --predictions or --adapters.")
    seen: set[str] = set()
    for system in systems:
        if system.name in seen:
            raise UserError(f"system '{system.name}': was given twice. Give each a name of its own.")
        if not system.name or set(system.name) & set('/\\:*?"<>|\n') or system.name[0] == ".":
            raise UserError(f"system '{system.name}': must be a name that a file can have.")
        if system.name in ("truth", "aif", "facts"):
            raise UserError(f"system '{system.name}': is what the truth's own files are called. Rename it.")
        seen.add(system.name)
    return list(systems)


def fingerprint(system: SystemSpec, clip: str, target: int) -> str:
    """Changes when what a system would make of a clip may have changed."""
    facts = [system.model_dump_json(exclude={"name"})]
    if system.kind == "predictions" and system.path is not None:
        facts.append(predictions_fingerprint(system.path, clip, target))
    elif system.path is not None:
        files = sorted(system.path.rglob("*")) if system.path.is_dir() else [system.path]
        stats = [(str(file.relative_to(system.path.parent)), file.stat()) for file in files if file.is_file()]
        facts.append(repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def open_system(system: SystemSpec, device: torch.device, log: Path | None = None) -> Predictor:
    """Make a system ready.

    Args:
        system: Which.
        device: Where ours compute.
        log: Folder for what children of adapters print.

    Raises:
        UserError: If it cannot be had.
    """
    if system.kind == "predictions":
        folder = open_predictions(_path(system))

        def read(truth: Truth, disparity: Tensor) -> Tensor:
            del disparity  # It was made elsewhere, with whatever was there.
            return read_prediction(folder, truth)

        return Predictor(system, read, SystemInfo(name=system.name, summary="predictions from a folder"))
    renderer, info = _open_renderer(system, device, log)

    def render(truth: Truth, disparity: Tensor) -> Tensor:
        given = (truth.aif, disparity, truth.k * system.k_factor, truth.focus_disparity)
        aif, disparity, k, focus = (tensor[None].to(device) for tensor in given)
        try:
            with torch.inference_mode():
                return renderer(aif, disparity, k, focus)[0]
        except ValueError as error:
            raise UserError(f"{system.name}: {error}") from error

    return Predictor(system, render, info, renderer)


def _open_renderer(
    system: SystemSpec, device: torch.device, log: Path | None
) -> tuple[BokehRenderer, SystemInfo]:
    match system.kind:
        case "network":
            network = AnyToBokeh(_path(system), device=device, fuse=system.fuse)
            parts = (network.pipeline.unet, network.pipeline.vae, network.pipeline.image_encoder)
            count = sum(p.numel() for part in parts for p in part.parameters())
            info = SystemInfo(
                name=system.name, summary="Any-to-Bokeh, ours", published=OURS, num_parameters=count
            )
            return network, info
        case "adapter":
            adapter = load_adapter(_path(system), system.member or system.name, log=log)
            published = PUBLISHED.get(adapter.system.name)
            fitted = "" if system.k_factor == 1 else f", K times {system.k_factor:.3f}"
            info = SystemInfo(
                name=system.name,
                summary=f"{adapter.system.title}, the user's checkout{fitted}",
                published=published,
            )
            return adapter, info
        case _:
            summary = RENDERERS[system.name].summary
            return get_renderer(system.name), SystemInfo(name=system.name, summary=summary)


def _path(system: SystemSpec) -> Path:
    assert system.path is not None, f"{system.kind} without a path"
    return system.path
