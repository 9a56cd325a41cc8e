"""``python -m focuspull.model``: the same as ``focuspull-refocus``."""

from focuspull.model.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
