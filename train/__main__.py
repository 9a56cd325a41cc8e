"""``python -m focuspull.train``."""

import sys

from focuspull.train.cli import main

sys.exit(main())
