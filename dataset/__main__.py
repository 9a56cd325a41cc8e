"""``python -m focuspull.dataset``: the same as ``focuspull-dataset``."""

from focuspull.dataset.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
