"""`CorpusSpec`: what a user asks for, read from YAML; mistakes are one line that names the field.

A shipped name (``tiny``, ``demo``) or a path to a YAML file, then dotted overrides. Files that a spec
names are looked up beside it, checked and identified by their SHA-256 here, once, so that everything
behind (`focuspull.render.randomize`, workers) is pure.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from focuspull.dataset.documents import document_path, explain, read_document, set_field, validated
from focuspull.dataset.errors import UserError
from focuspull.render.assets import (
    PREFIX,
    AssetQuery,
    bpy_data_folder,
    credits_of,
    find_assets,
    locate_asset,
    merged_pools,
    pool_of,
    sequence_names,
)
from focuspull.render.families import FamilySpec
from focuspull.render.pool import AssetPool
from focuspull.render.puller import ROLES, KCurve, Puller, Weight, role_and_number
from focuspull.render.spec import (
    BlurDomain,
    FileRef,
    FilmSpec,
    LensSpec,
    Model,
    QualitySpec,
    Unit,
    cycles_problem,
)

ModelT = TypeVar("ModelT", bound=Model)

SPECS = Path(__file__).parent / "specs"
MAX_TARGETS = 64
"""Bokeh videos of a clip."""
K1024 = Annotated[float, Field(ge=0.0, le=256.0)]
KRange = K1024 | tuple[K1024, K1024]


class TargetRange(Model):
    """One bokeh video per clip, or two.

    Attributes:
        k_at_1024: K at 1024 px width: a number, or [low, high], drawn evenly in the logarithm.
        k_end_at_1024: K of the last frame, for aperture ramps; linear in between. Absent: constant.
        focus: Where focus is: a disparity in [0, 1], a role (``subject``, ``foreground``, ``background``:
            one object of it is drawn; ``subject:0``, ``subject:1``, ...: that one, counted round if there are
            fewer) or an object's name. Several: a focus pull through all of them, or the places that a
            puller chooses from.
        puller: Draws how focus moves; None: it goes through ``focus``, evenly in time.
        k_curves: Draws how K moves within its range, by weight: ``constant``, ``ramp``, ``steps``; None: as
            ``k_end_at_1024`` says.
        lens: Shape and faults of the lens.
        domain: What is blurred: ``linear_hdr`` is light, as in a camera; ``encoded8`` the display values of
            the all-in-focus video, 8 bits with highlights clipped, as earlier data of flat cards did.
        twin: Whether the same is rendered through the ideal lens too (thin, round), as one more target
            right after this one. What differs between the two is the lens alone.
    """

    k_at_1024: KRange
    k_end_at_1024: KRange | None = None
    focus: tuple[Unit | str, ...] = Field(min_length=1)
    lens: LensSpec = LensSpec()
    domain: BlurDomain = "linear_hdr"
    twin: bool = False
    puller: Puller | None = None
    k_curves: dict[KCurve, Weight] | None = None
    later_fields: ClassVar[tuple[str, ...]] = ("puller", "k_curves")

    @model_validator(mode="after")
    def _curves_have_a_range(self) -> TargetRange:
        if self.k_curves is None:
            return self
        if not isinstance(self.k_at_1024, tuple) or self.k_end_at_1024 is not None:
            raise ValueError("k_curves move K within k_at_1024: give that as [low, high], no k_end_at_1024")
        if sum(self.k_curves.values()) <= 0:
            raise ValueError("k_curves: give at least one a weight above 0")
        return self

    @model_validator(mode="after")
    def _twin_differs(self) -> TargetRange:
        if self.twin and self.lens.is_ideal:
            raise ValueError("twin is for a lens that is not ideal: set lens, or take twin away")
        return self

    @field_validator("k_at_1024", "k_end_at_1024")
    @classmethod
    def _in_order(cls, value: KRange | None) -> KRange | None:
        if isinstance(value, tuple) and not 0 < value[0] <= value[1]:
            raise ValueError(f"a range of K needs 0 < low <= high, got {list(value)}")
        return value


class FilmChanges(Model):
    """What a stratum may have different from the film of its corpus; all clips have one size and length."""

    fps: float | None = Field(default=None, gt=0.0, le=1000.0)
    shutter: Unit | None = None
    shutter_samples: int | None = Field(default=None, ge=1, le=256)
    exposure_ev: float | None = Field(default=None, ge=-20.0, le=20.0)


class QualityChanges(Model):
    """What a stratum may have different from the quality of its corpus."""

    aif_samples: int | None = Field(default=None, ge=1, le=65536)
    bokeh_samples: int | None = Field(default=None, ge=1, le=65536)
    max_bounces: int | None = Field(default=None, ge=0, le=64)


class Stratum(Model):
    """A run of clips of a corpus that are examples of one thing.

    Attributes:
        name: Such as ``thin-structure``; several runs may have one name.
        clips: How many clips it has; runs follow each other in the order of clip numbers, through all splits.
        scenes: Scene families in place of the corpus's.
        targets: Bokeh videos in place of the corpus's; as many as all other runs have.
        film: Fields in place of those of the corpus's film.
        quality: Fields in place of those of the corpus's quality.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]*$")
    clips: int = Field(ge=1)
    scenes: tuple[FamilySpec, ...] | None = Field(default=None, min_length=1)
    targets: tuple[TargetRange, ...] | None = Field(default=None, min_length=1, max_length=MAX_TARGETS)
    film: FilmChanges = FilmChanges()
    quality: QualityChanges = QualityChanges()


@dataclass(frozen=True)
class PlannedShard:
    """A shard's name (``train-000000``), split, and the numbers of its clips."""

    name: str
    split: str
    indices: tuple[int, ...]


class CorpusSpec(Model):
    """A corpus: how many clips, how they look, what is rendered of each.

    Attributes:
        name: Short name for people.
        description: One line for ``focuspull-render list``.
        seed: Root of all randomness; 0 is a seed like any other.
        backend: ``mitsuba`` or ``cycles``.
        splits: Clips per split, numbered through in this order.
        clips_per_shard: Clips in one tar file (the last of a split may have fewer).
        scenes: Scene families to draw from, by weight, with their ranges.
        targets: The bokeh videos of every clip.
        assets: Files that the families may use. In YAML also what `focuspull.render.assets.AssetQuery` has:
            ``use: [bpy, pmndrs], tags: [chair]``; the assets of the library that it finds are added here.
        annotate: Whether metadata and index say where every subject is in every frame, how difficult a clip
            is, and of which family, as corpora with strata do in any case.
        strata: Runs of clips with scenes or targets of their own; none, or as many clips as there are in all.
            Their names, and those of the families, become labels of the clips.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]*$")
    description: str = ""
    seed: int = Field(ge=0)
    backend: Literal["mitsuba", "cycles"] = "mitsuba"
    splits: dict[Annotated[str, Field(pattern="^[a-z0-9]+$")], Annotated[int, Field(ge=1)]] = Field(
        min_length=1
    )
    clips_per_shard: int = Field(default=16, ge=1)
    film: FilmSpec = FilmSpec()
    quality: QualitySpec = QualitySpec()
    scenes: tuple[FamilySpec, ...] = Field(min_length=1)
    targets: tuple[TargetRange, ...] = Field(min_length=1, max_length=MAX_TARGETS)
    strata: tuple[Stratum, ...] = ()
    assets: AssetPool = AssetPool()
    annotate: bool = False
    later_fields: ClassVar[tuple[str, ...]] = ("strata", "assets", "annotate")

    @property
    def num_clips(self) -> int:
        """Clips in all splits."""
        return sum(self.splits.values())

    def split_of(self, index: int) -> str:
        """The split of a clip number."""
        for split, end in zip(self.splits, accumulate(self.splits.values()), strict=True):
            if index < end:
                return split
        raise IndexError(index)

    def stratum_of(self, index: int) -> Stratum | None:
        """The stratum of a clip number; None if the corpus has none."""
        if not self.strata:
            return None
        ends = list(accumulate(stratum.clips for stratum in self.strata))
        return self.strata[bisect_right(ends, index)]

    def scenes_of(self, index: int) -> tuple[FamilySpec, ...]:
        """The families that a clip is drawn from."""
        stratum = self.stratum_of(index)
        return self.scenes if stratum is None or stratum.scenes is None else stratum.scenes

    def targets_of(self, index: int) -> tuple[TargetRange, ...]:
        """The targets of a clip."""
        stratum = self.stratum_of(index)
        return self.targets if stratum is None or stratum.targets is None else stratum.targets

    def film_of(self, index: int) -> FilmSpec:
        """The film of a clip."""
        stratum = self.stratum_of(index)
        return self.film if stratum is None else _changed(self.film, stratum.film)

    def quality_of(self, index: int) -> QualitySpec:
        """The quality of a clip."""
        stratum = self.stratum_of(index)
        return self.quality if stratum is None else _changed(self.quality, stratum.quality)

    def shards(self) -> tuple[PlannedShard, ...]:
        """Every shard with its clips; a pure function of the spec."""
        shards: list[PlannedShard] = []
        start = 0
        for split, count in self.splits.items():
            for number, first in enumerate(range(start, start + count, self.clips_per_shard)):
                indices = tuple(range(first, min(first + self.clips_per_shard, start + count)))
                shards.append(PlannedShard(f"{split}-{number:06d}", split, indices))
            start += count
        return tuple(shards)

    @model_validator(mode="after")
    def _few_targets(self) -> CorpusSpec:
        count = _num_targets(self.targets)
        if count > MAX_TARGETS:
            raise ValueError(f"targets: {count} with their twins, at most {MAX_TARGETS} are possible")
        return self

    @model_validator(mode="after")
    def _strata_share_out_the_clips(self) -> CorpusSpec:
        if not self.strata:
            return self
        if (count := sum(stratum.clips for stratum in self.strata)) != self.num_clips:
            raise ValueError(f"strata: have {count} clips, the splits {self.num_clips}. Let them agree.")
        # Readers of WebDataset want the same members in every sample.
        for i, stratum in enumerate(self.strata):
            if stratum.targets is not None and _num_targets(stratum.targets) != _num_targets(self.targets):
                raise ValueError(
                    f"strata.{i}.targets: are {_num_targets(stratum.targets)} with their twins, those of the "
                    f"corpus {_num_targets(self.targets)}. Let all have as many."
                )
        return self

    @model_validator(mode="after")
    def _backend_has_the_lenses(self) -> CorpusSpec:
        targets = [target for _, some in self._all_targets() for target in some]
        problem = cycles_problem([(t.lens, t.domain) for t in targets], self.quality)
        if self.backend == "cycles" and problem:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _known_focus(self) -> CorpusSpec:
        families = [s for some in (self.scenes, *(x.scenes or () for x in self.strata)) for s in some]
        fixed = {o.name for s in families if s.family == "world" for o in s.world.objects}
        for where, targets in self._all_targets():
            for i, target in enumerate(targets):
                if target.puller is None and len(target.focus) > self.film.num_frames:
                    raise ValueError(
                        f"{where}.{i}.focus has {len(target.focus)} places for {self.film.num_frames} frames"
                    )
                for place in target.focus:
                    if isinstance(place, str) and role_and_number(place) is None and place not in fixed:
                        raise ValueError(
                            f"{where}.{i}.focus: '{place}' is neither a role ({', '.join(ROLES)}; the "
                            f"second one of it is {ROLES[0]}:1) nor an object"
                        )
        return self

    def _all_targets(self) -> list[tuple[str, tuple[TargetRange, ...]]]:
        """The field and its targets, of the corpus and of its strata."""
        own = [(f"strata.{i}.targets", s.targets) for i, s in enumerate(self.strata) if s.targets is not None]
        return [("targets", self.targets), *own]


def _changed(record: ModelT, changes: Model) -> ModelT:
    """A record with the fields that are given in ``changes``."""
    return record.model_copy(update=changes.model_dump(exclude_none=True))


def _num_targets(targets: tuple[TargetRange, ...]) -> int:
    return sum(1 + target.twin for target in targets)


@dataclass(frozen=True)
class LoadedCorpus:
    """A checked spec and where its files lie, by SHA-256."""

    spec: CorpusSpec
    files: dict[str, Path]


def shipped_specs() -> dict[str, str]:
    """Names of the specs in the package, with their descriptions."""
    return {
        path.stem: yaml.safe_load(path.read_text())["description"] for path in sorted(SPECS.glob("*.yaml"))
    }


def load_corpus(name_or_path: str, overrides: Mapping[str, str] | None = None) -> LoadedCorpus:
    """Reads a corpus spec.

    Args:
        name_or_path: A shipped name, or a path to a YAML file.
        overrides: Dotted field to YAML text, e.g. ``{"film.width": "256", "targets.0.k_at_1024": "24"}``.

    Raises:
        UserError: For every mistake, with file, field, value and what to do.
    """
    path = document_path(name_or_path, SPECS, "spec")
    document = read_document(path, "Start from a shipped spec: focuspull-render list.")
    for field, text in (overrides or {}).items():
        set_field(document, field, text)
    query = _take_query(document, path.name)
    spec = validated(CorpusSpec, document, path.name)
    if query is not None:
        split = query.split or ("test" if set(spec.splits) == {"test"} else "train")
        pool = merged_pools(spec.assets, pool_of(find_assets(query, split)))
        spec = spec.model_copy(update={"assets": pool})
    files: dict[str, Path] = {}
    resolved = _resolve(spec.model_dump(), path.parent, files, path.name)
    if credits := credits_of(_names(resolved)):
        resolved["assets"] = {**resolved.get("assets", {}), "credits": [c.model_dump() for c in credits]}
    return LoadedCorpus(CorpusSpec.model_validate(resolved), files)


def _take_query(document: dict[str, Any], where: str) -> AssetQuery | None:
    """The fields of ``assets`` that ask the library, taken out of the document."""
    assets = document.get("assets")
    if not isinstance(assets, dict):
        return None
    asked = {name: assets[name] for name in AssetQuery.model_fields if name in assets}
    if not asked:
        return None
    if "use" not in asked:
        raise UserError(
            f"{where}: assets.{next(iter(asked))}: says which, but not of what. Add assets.use: [all]."
        )
    document["assets"] = {name: value for name, value in assets.items() if name not in asked}
    try:
        return AssetQuery.model_validate(asked)
    except ValidationError as error:
        raise UserError(f"{where}: assets: {explain(error, asked, AssetQuery)}") from None


# --- Files --------------------------------------------------------------------------------------


def _names(node: Any) -> Iterator[str]:
    """Names of all files in a dumped spec."""
    if isinstance(node, dict):
        if set(node) == {"name", "sha256"}:
            yield node["name"]
            return
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _names(child)


def _resolve(node: Any, folder: Path, files: dict[str, Path], where: str) -> Any:
    """The dumped spec with every file hashed and every image sequence expanded."""
    if isinstance(node, dict):
        if set(node) == {"name", "sha256"}:
            return _identify(node, folder, files, where).model_dump()
        if set(node) == {"pattern", "frames"} and node["pattern"].startswith(PREFIX):
            frames = [
                _identify({"name": name, "sha256": ""}, folder, files, where).model_dump()
                for name in sequence_names(node["pattern"])
            ]
            _refuse_other_frames(node, frames, where)
            return {"pattern": node["pattern"], "frames": frames}
        if set(node) == {"pattern", "frames"}:
            paths = sorted(_base(node["pattern"], folder).glob(Path(node["pattern"]).name))
            if not paths:
                raise UserError(
                    f"{where}: no file matches '{node['pattern']}'. Give a pattern such as walk/*.png."
                )
            parent = Path(node["pattern"]).parent
            names = [str(parent / p.name) for p in paths]
            frames = [
                _identify({"name": name, "sha256": ""}, folder, files, where).model_dump() for name in names
            ]
            _refuse_other_frames(node, frames, where)
            return {"pattern": _public_name(node["pattern"]), "frames": frames}
        return {key: _resolve(value, folder, files, where) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_resolve(value, folder, files, where) for value in node]
    return node


def _refuse_other_frames(node: Mapping[str, Any], frames: list[dict[str, Any]], where: str) -> None:
    if node["frames"] and [f["sha256"] for f in node["frames"]] != [f["sha256"] for f in frames]:
        raise UserError(f"{where}: the files of '{node['pattern']}' are not the frames that are given.")


def _identify(ref: Mapping[str, str], folder: Path, files: dict[str, Path], where: str) -> FileRef:
    name = ref["name"]
    if name.startswith(PREFIX):
        path = locate_asset(name)
    else:
        path = (_base(name, folder) / Path(name).name).absolute()
    if not path.is_file():
        raise UserError(f"{where}: file '{name}' does not exist. Paths are relative to the spec's folder.")
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"{where}: file '{name}' cannot be read ({error.strerror}). Check its permissions."
        ) from None
    if ref["sha256"] not in ("", digest):
        raise UserError(f"{where}: file '{name}' has sha256 {digest}, not the one that is given.")
    files[digest] = path
    return FileRef(name=_public_name(name), sha256=digest)


def _base(name: str, folder: Path) -> Path:
    """The folder in which a file or pattern is looked up."""
    if not name.startswith("bpy:"):
        return (folder / name).parent
    return (bpy_data_folder() / name.removeprefix("bpy:")).parent


def _public_name(name: str) -> str:
    """A name for the corpus: absolute paths are cut to the file's own name."""
    return Path(name).name if Path(name).is_absolute() else name
