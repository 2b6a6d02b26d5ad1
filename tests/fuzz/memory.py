"""The most memory that this process had at once, where the system tells."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

ON_LINUX = sys.platform == "linux"


def forget_peak() -> None:
    """Begin anew, where the system can."""
    if ON_LINUX:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Mebibytes of resident memory at its highest; 0 where the system does not say."""
    if not ON_LINUX:
        return 0.0
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def limit(mebibytes: int) -> None:
    """Let allocations beyond fail rather than take the machine down."""
    if ON_LINUX:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (mebibytes * 2**20, mebibytes * 2**20))
