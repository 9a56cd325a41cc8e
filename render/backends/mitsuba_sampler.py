"""Numbers for re-binned paths after the lens: a Kronecker sequence per pixel, each with its random shift.

Coordinate d of sample k is ``frac(k sqrt(p_d) + shift_d)``, p_d the d-th prime and shift_d a hash of the
pixel and d (Richtmyer, 1951; Cranley and Patterson, Randomization of Number
Theoretic Methods for Multiple Integration, 1976).
The noise is that of a multijittered sampler, which film and lens points still come from (drawn like this too,
they cost 0.4 to 0.9 dB); what is saved is time, a multiplication and a hash in place of a permutation.
"""

# mitsuba and drjit are typed per variant; the modules are handled as Any.
# pyright: basic, reportAttributeAccessIssue=false
from __future__ import annotations

import functools
import math
from typing import Any

NUM_CALLS = 64
"""Calls for a number or a pair that have coordinates of their own: 16 bounces. Later ones are random."""


def path_sampler(mi: Any, sequence: Any, index: Any, seed: int) -> Any:
    """A `mitsuba.Sampler` whose ``next_1d`` and ``next_2d`` may be called, also within Mitsuba's loops.

    Args:
        mi: Mitsuba, with a vectorised variant.
        sequence: Number of the pixel's sequence, for every lane; different sequences are independent.
        index: Of the sample within its sequence, for every lane.
        seed: Of the noise.
    """
    sampler = _sampler_class(mi.variant())(mi.Properties("kronecker"))
    sampler.start(sequence, index, seed)
    return sampler


@functools.cache
def _sampler_class(variant: str) -> Any:
    import drjit as dr
    import mitsuba

    mi: Any = mitsuba
    assert variant == mi.variant()
    fractions = [math.sqrt(prime) % 1 for prime in _primes(2 * NUM_CALLS)]
    steps = mi.UInt32([int(fraction * 2**32) for fraction in fractions])

    class KroneckerSampler(mi.Sampler):
        # Attributes that are arrays are state of Mitsuba's loops.

        def start(self, sequence: Any, index: Any, seed: int) -> None:
            self.index = mi.UInt32(index)
            self.keys = mi.sample_tea_32(mi.UInt32(sequence), dr.opaque(mi.UInt32, seed & 0xFFFFFFFF), 8)
            self.call = mi.UInt32(0)

        def next_1d(self, active: Any = True) -> Any:
            del active
            call = mi.UInt32(self.call)
            self.call = call + 1
            return self._number(call, 0)

        def next_2d(self, active: Any = True) -> Any:
            del active
            call = mi.UInt32(self.call)
            self.call = call + 1
            return mi.Point2f(self._number(call, 0), self._number(call, 1))

        def _number(self, call: Any, axis: int) -> Any:
            has_own = call < NUM_CALLS
            step = dr.gather(mi.UInt32, steps, 2 * call + axis, has_own)
            shift = _hash(self.keys[axis] + call * 0x9E3779B9)
            late = _hash(shift + self.index)
            bits = dr.select(has_own, step * self.index + shift, late)
            return mi.Float(bits >> 8) * 2.0**-24

        def schedule_state(self) -> None:
            dr.schedule(self.index, self.keys, self.call)

    return KroneckerSampler


def _hash(x: Any) -> Any:
    """Of 32 bits to 32 bits, a bijection: ``lowbias32`` (Wellons, Prospecting for Hash Functions, 2018)."""
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


def _primes(count: int) -> list[int]:
    primes: list[int] = []
    candidate = 2
    while len(primes) < count:
        if all(candidate % prime for prime in primes):
            primes.append(candidate)
        candidate += 1
    return primes
