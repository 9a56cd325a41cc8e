"""Scene families: each is a record of ranges and a function ``random_thing(rng, ranges)``.

``tabletop``: still lifes on a wooden table. ``night``: lamps and lights over wet ground. ``street``: streets
and squares by day, at dusk or in rain. ``nature``: plants out of doors. ``glass``: transparent and mirroring
things. ``cards``: cut-outs. ``stress``: what breaks refocusing. ``world``: one scene that the user wrote out.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from focuspull.render.families.cards import CardsRanges, random_cards
from focuspull.render.families.glass import GlassRanges, random_glass
from focuspull.render.families.nature import NatureRanges, random_nature
from focuspull.render.families.night import NightRanges, random_night
from focuspull.render.families.street import StreetRanges, random_street
from focuspull.render.families.stress import StressRanges, random_stress
from focuspull.render.families.tabletop import TabletopRanges, random_tabletop
from focuspull.render.pool import AssetPool
from focuspull.render.spec import Model, World


class GivenWorld(Model):
    """The same world in every clip."""

    family: Literal["world"]
    weight: Annotated[float, Field(gt=0)] = 1.0
    world: World


FamilySpec = Annotated[
    TabletopRanges
    | NightRanges
    | StreetRanges
    | NatureRanges
    | GlassRanges
    | CardsRanges
    | StressRanges
    | GivenWorld,
    Field(discriminator="family"),
]
FAMILIES = ("tabletop", "night", "street", "nature", "glass", "cards", "stress", "world")


def random_world(family: FamilySpec, rng: np.random.Generator, assets: AssetPool) -> World:
    """A world drawn from a family.

    Args:
        family: Its ranges.
        rng: Source of all that is drawn.
        assets: Files that it may use.
    """
    match family:
        case TabletopRanges():
            return random_tabletop(rng, family)
        case NightRanges():
            return random_night(rng, family)
        case NatureRanges():
            return random_nature(rng, family, assets)
        case CardsRanges():
            return random_cards(rng, family, assets)
        case StressRanges():
            return random_stress(rng, family)
        case StreetRanges():
            return random_street(rng, family, assets)
        case GlassRanges():
            return random_glass(rng, family, assets)
        case GivenWorld():
            return family.world
