from __future__ import annotations

import os

# Tests run side by side; threads of torch would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
