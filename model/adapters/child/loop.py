"""Answers requests of `focuspull.model.adapters.process`, in the Python of a checkout.

The first line on standard input says where checkout and weights are and which options there are; each
further one names the .npy files of a request, its other values and where the result goes. Replies are JSON
lines on a pipe of their own, whose number is the only argument: systems print on standard output. They read
nothing from standard input either; it is empty for them. An exception ends the process, with its traceback
on standard error, because a system may be left in any state.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np


def serve(load: Callable[..., Any]) -> None:
    """Load a system and answer requests until standard input ends.

    Args:
        load: ``(checkout, weights, options)``, two paths and a dict, to the function that renders: from a
            dict of arrays and one of values to an array ``[T, H, W, 3]``.
    """
    pipe = int(sys.argv[1])
    os.set_inheritable(pipe, False)
    replies = os.fdopen(pipe, "w", encoding="utf-8")
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    setup = json.loads(requests.readline())
    # Modules of the checkout come first; those of this folder could hide some of theirs.
    sys.path[0] = setup["checkout"]
    # A module of theirs may parse arguments when it is imported.
    del sys.argv[1:]
    render = load(setup["checkout"], setup["weights"], setup["options"])
    _reply(replies, {"ready": True})
    for line in requests:
        request = json.loads(line)
        arrays = {name: np.load(path) for name, path in request["arrays"].items()}
        result = render(arrays, request["values"])
        np.save(request["result"], np.asarray(result, dtype=np.float32))
        _reply(replies, {"done": request["number"]})


def mend_cupy() -> None:
    """Give CuPy two names back that its later releases dropped and that checkouts use."""
    cupy: Any = import_module("cupy")
    if not hasattr(cupy.cuda, "compile_with_cache"):
        cupy.cuda.compile_with_cache = lambda source: cupy.RawModule(code=source)
    if not hasattr(cupy, "int"):
        cupy.int = int


def _reply(replies: Any, message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()
