"""Settings of the whole test run: no network, and no test skipped in silence where nothing may be missing."""

import os

import pytest

from focuspull.dataset.errors import UserError
from focuspull.render.backends import BACKENDS

# Before any test imports ray or datasets: both read these when imported, and neither may use the network.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of a renderer that cannot run here and say why; but not in CI: there they fail."""
    if os.environ.get("CI"):
        return
    for name, backend in BACKENDS.items():
        try:
            backend.version()
        except UserError as error:
            skip = pytest.mark.skip(reason=str(error))
            for item in items:
                if item.get_closest_marker(name):
                    item.add_marker(skip)
