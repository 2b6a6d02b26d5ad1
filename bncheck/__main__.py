"""``python -m bncheck``."""

import sys

from bncheck.cli import main

sys.exit(main())
