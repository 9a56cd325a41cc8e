"""``python -m focuspull.render``: the same as ``focuspull-render``."""

from focuspull.render.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
