"""Whether K and the focus are obeyed: those who do are told from those who do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.dataset.loader import Batch, unit
from focuspull.model.renderer import get_renderer
from focuspull.train.obey import obedience, obedience_table, spearman
from focuspull.train.validate import renderer_predict
from tests.train.test_stages import make_batch


@pytest.fixture(scope="module")
def samples() -> list[Batch]:
    """Noise on a staircase of disparity whose lowest step is wide; K from 200 to 600 at 1024 pixels."""
    batch = make_batch(batch=1, frames=1, height=48, width=160)
    steps = torch.tensor([0.04, 0.24, 0.44, 0.64, 0.84]).repeat_interleave(20)
    disparity = torch.cat([torch.full((60,), 0.04), steps]).expand(1, 1, 1, 48, 160).contiguous()
    k_px = (2.0, 6.0)
    return [replace(batch, disparity=disparity, k=torch.full((1, 1), k)) for k in k_px]


def test_renderers_obey_and_those_who_do_nothing_do_not(samples: list[Batch]) -> None:
    names = ("identity", "gather")
    found = obedience({name: renderer_predict(get_renderer(name)) for name in names}, samples)
    gather, identity = found["gather"], found["identity"]
    # From 2 to 6 px times the distance of the lowest step from a focus at 1.
    np.testing.assert_allclose(gather.wanted_px, np.linspace(2, 6, 5) * 0.96, rtol=1e-6)
    np.testing.assert_allclose(gather.measured_px, gather.wanted_px, rtol=0.06)
    assert gather.rises == 1 and gather.focus_correlation > 0.9 and gather.focus_error < 0.08
    assert identity.rises == 0 and max(identity.measured_px) == 0
    assert gather.num_clips == identity.num_clips == (1, 1)
    table = obedience_table(found).splitlines()
    assert [line.split("|")[1].strip() for line in table] == ["", "---", "asked", *names]


def test_blur_of_one_strength_is_not_obedience(samples: list[Batch]) -> None:
    gather = renderer_predict(get_renderer("gather"))

    def stubborn(batch: Batch) -> Tensor:
        like = torch.ones_like(batch.k)
        return gather(replace(batch, k=4 * like, focus_disparity=0.04 * like))

    found = obedience({"stubborn": stubborn}, samples)["stubborn"]
    assert found.rises == 0
    assert found.focus_correlation == 0 and found.focus_error > 0.2


def test_clips_that_show_nothing_are_refused(samples: list[Batch]) -> None:
    flat = [replace(batch, aif=torch.full_like(batch.aif, 128)) for batch in samples]
    with pytest.raises(UserError, match="no clip has a surface"):
        obedience({"identity": lambda batch: unit(batch.aif)}, flat)


def test_rank_correlation() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(a, np.exp(a)) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)
    assert spearman(a, np.ones(4)) == 0
    # Ranks 0, 1.5, 1.5, 3.
    assert spearman(a, np.array([1.0, 2.0, 2.0, 5.0])) == pytest.approx(np.sqrt(0.9))
