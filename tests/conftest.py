from __future__ import annotations

import os
import signal

# Tests run side by side; threads of torch would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts this in the background lets it ignore Ctrl-C, and all processes of tests too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
