"""The order of samples: everything once per epoch, shares as asked, and the same for ever."""

from __future__ import annotations

import numpy as np
import pytest

from focuspull.dataset.order import BLOCK, Order, Place, _mixed

SHARDS = np.repeat(np.arange(9), [3, 5, 1, 4, 4, 7, 2, 6, 5])


def places(order: Order, start: int, stop: int) -> list[Place]:
    return [order.at(position) for position in range(start, stop)]


def test_every_item_comes_once_per_epoch_and_epochs_differ():
    order = Order([SHARDS], seed=3)
    n = len(SHARDS)
    first, second = places(order, 0, n), places(order, n, 2 * n)
    assert sorted(place.item for place in first) == sorted(place.item for place in second) == list(range(n))
    assert {place.epoch for place in first} == {0} and {place.epoch for place in second} == {1}
    assert [place.item for place in first] != [place.item for place in second]
    assert [place.item for place in first] != sorted(place.item for place in first)


def test_order_depends_on_the_seed_alone():
    assert places(Order([SHARDS], seed=3), 5, 99) == places(Order([SHARDS.copy()], seed=3), 5, 99)
    assert places(Order([SHARDS], seed=3), 5, 99) != places(Order([SHARDS], seed=4), 5, 99)


def test_order_is_the_one_of_earlier_releases():
    """A changed order would make checkpoints resume with other samples."""
    items = [place.item for place in places(Order([SHARDS], seed=0, shards_mixed=2), 0, 8)]
    assert items == [3, 14, 15, 6, 7, 16, 4, 5]
    mixed = Order([SHARDS, np.zeros(3, np.int64)], seed=0, weights=[1, 1])
    assert [place.corpus for place in places(mixed, 0, 12)] == [1, 0, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0]
    # The first output of SplitMix64 from state 0, as its authors' code gives it.
    assert int(_mixed(np.uint64(0))) == 0xE220A8397B1DCDAF


def test_few_shards_are_open_at_a_time():
    order = Order([SHARDS], seed=1, shards_mixed=3)
    shards = [int(SHARDS[place.item]) for place in places(order, 0, len(SHARDS))]
    groups = []
    for shard in shards:
        if not groups or (shard not in groups[-1] and len(groups[-1]) == 3):
            groups.append(set())
        groups[-1].add(shard)
    assert len(groups) == 3 and sum(map(len, groups)) == 9


def test_corpora_without_weights_are_one_epoch():
    order = Order([SHARDS, np.zeros(4, np.int64)], seed=0)
    found = {(place.corpus, place.item) for place in places(order, 0, order.num_items)}
    assert found == {(0, i) for i in range(len(SHARDS))} | {(1, i) for i in range(4)}


def test_weights_are_kept_and_each_corpus_has_epochs_of_its_own():
    sizes = (37, 4, 11)
    order = Order([np.zeros(n, np.int64) for n in sizes], seed=5, weights=[6, 3, 1])
    stop = 3 * BLOCK + 100
    found = places(order, 0, stop)
    for corpus, share in enumerate((0.6, 0.3, 0.1)):
        own = [place for place in found if place.corpus == corpus]
        assert abs(len(own) - share * stop) < 40
        assert sum(place.corpus == corpus for place in found[:BLOCK]) == pytest.approx(share * BLOCK, abs=1)
        for start in range(0, len(own) - sizes[corpus], sizes[corpus]):
            epoch = own[start : start + sizes[corpus]]
            assert sorted(place.item for place in epoch) == list(range(sizes[corpus]))


def test_positions_far_out_are_as_cheap_as_near_ones():
    order = Order([np.zeros(7, np.int64), np.zeros(5, np.int64)], seed=0, weights=[1, 2])
    assert order.at(10**12) == order.at(10**12)
    assert order.at(10**12).epoch > 10**10


def test_without_shuffling_items_come_as_they_are():
    assert [p.item for p in places(Order([SHARDS], seed=0, shuffle=False), 0, 40)] == [
        *range(len(SHARDS)), 0, 1, 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed >= 0"),
        ({"seed": 0, "shards_mixed": 0}, "shards_mixed >= 1"),
        ({"seed": 0, "weights": [1, 2]}, "a positive weight per corpus"),
        ({"seed": 0, "weights": [0]}, "a positive weight per corpus"),
        ({"seed": 0, "weights": [float("nan")]}, "a positive weight per corpus"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Order([SHARDS], **options)
    with pytest.raises(ValueError, match="at least one item"):
        Order([SHARDS[:0]], seed=0)
