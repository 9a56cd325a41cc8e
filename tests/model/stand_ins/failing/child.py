"""The script of `focuspull.model.adapters.child` for a checkout that fails in every way there is."""

import sys
import time
from importlib import import_module
from pathlib import Path


def load(checkout, weights, options):
    if options["load"] == "hang":
        time.sleep(60)
    if options["load"] == "missing":
        import_module("not_installed_here")
    system = import_module("system")
    return lambda arrays, values: system.run(arrays["image"], values["do"])


if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).parents[4] / "model" / "adapters" / "child"))
    import_module("loop").serve(load)
