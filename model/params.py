"""Print how many parameters a preset has, by component: ``python -m focuspull.model.params svd``.

The networks are built on the meta device, so it takes no memory and no weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from focuspull.dataset.errors import UserError
from focuspull.model import unet, vae
from focuspull.model.presets import OFFICIAL, PRESETS, build


def count(preset: str, *, official: bool = False) -> dict[str, dict[str, int]]:
    """Numbers of parameters.

    Args:
        preset: A key of `focuspull.model.presets.PRESETS`.
        official: Whether to count what the released code of Any-to-Bokeh computes with.

    Returns:
        For each network, from the names of its parts to their numbers of parameters.

    Raises:
        UserError: If there is no such preset.
    """
    with torch.device("meta"):
        parts = build(preset, **(OFFICIAL if official else {}))
    return {
        "unet": _sizes(unet.parameters_by_group(parts.unet)),
        "vae": _sizes(vae.parameters_by_group(parts.vae)),
        "image_encoder": {"all": sum(p.numel() for p in parts.image_encoder.parameters())},
    }


def _sizes(groups: Mapping[Any, Mapping[str, nn.Parameter]]) -> dict[str, int]:
    return {group: sum(p.numel() for p in named.values()) for group, named in groups.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m focuspull.model.params", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("preset", help=", ".join(PRESETS))
    parser.add_argument("--official", action="store_true", help="of what the released code computes")
    given = parser.parse_args(argv)
    try:
        counted = count(given.preset, official=given.official)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for network, groups in counted.items():
        for group, number in groups.items():
            print(f"{network:14} {group:17} {number:15,}")
        if len(groups) > 1:
            print(f"{network:14} {'':17} {sum(groups.values()):15,}")
    print(f"{'total':32} {sum(sum(groups.values()) for groups in counted.values()):15,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
