"""``python -m bncheck``."""

import sys

from bncheck.cli import process

sys.exit(process())
