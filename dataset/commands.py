"""What the command lines of focuspull share; light, since every ``--help`` imports it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence


def examples(program: str, *commands: str) -> str:
    """The last lines of a help text: commands to copy."""
    return "examples:\n" + "\n".join(f"  {program} {command}" for command in commands)


def overrides(extra: Sequence[str], parser: argparse.ArgumentParser, *, takes_fields: bool) -> dict[str, str]:
    """Fields of a document, from pairs of ``--FIELD VALUE`` or ``--FIELD=VALUE`` that argparse did not know.

    Args:
        extra: What ``parse_known_args`` has left.
        parser: Ends the program when something else is left.
        takes_fields: Whether the verb takes any.

    Returns:
        Dotted name to YAML text.
    """
    found: dict[str, str] = {}
    rest = list(extra)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not takes_fields or not word.startswith("--") or not name:
            parser.error(f"unrecognized argument: {word}")
        if not equals:
            if not rest or rest[0].startswith("--"):
                parser.error(f"argument --{name}: expected a value")
            value = rest.pop(0)
        found[name] = value
    return found


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
