"""Settings of the whole test run: no network, and no test skipped in silence where nothing may be missing."""

import importlib.util
import os

import pytest

# Before any test imports ray or datasets: both read these when imported, and neither may use the network.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

RENDERERS = {"cycles": "bpy", "mitsuba": "mitsuba"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of a renderer that is not installed, but not in CI: there they fail."""
    if os.environ.get("CI"):
        return
    for marker, package in RENDERERS.items():
        if importlib.util.find_spec(package) is not None:
            continue
        skip = pytest.mark.skip(reason=f"{package} is not installed: pip install -e '.[render]'")
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(skip)
