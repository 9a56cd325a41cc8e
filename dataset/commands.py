"""What the command lines of focuspull share; light, since every ``--help`` imports it."""

from __future__ import annotations

import argparse
import math


def examples(program: str, *commands: str) -> str:
    """The last lines of a help text: commands to copy."""
    return "examples:\n" + "\n".join(f"  {program} {command}" for command in commands)


def positive(text: str) -> int:
    """Argument type: an integer from 1."""
    return _at_least(1, text)


def natural(text: str) -> int:
    """Argument type: an integer from 0."""
    return _at_least(0, text)


def above_zero(text: str) -> float:
    """Argument type: a number above 0."""
    if not (number := _finite(text)) > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return number


def not_negative(text: str) -> float:
    """Argument type: a number that is 0 or above."""
    if (number := _finite(text)) < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return number


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got '{text}'") from None
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be finite, got {text}")
    return number


def _at_least(low: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got '{text}'") from None
    if number < low:
        raise argparse.ArgumentTypeError(f"must be at least {low}, got {number}")
    return number
