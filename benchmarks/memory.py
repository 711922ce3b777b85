"""What a process holds in memory, as Linux says it."""

import re
from pathlib import Path

__all__ = ["resident"]


def resident(process: int | str = "self", *, peak: bool = False) -> float:
    """Return a process's resident set, GiB, or its largest so far; 0 once it has ended.

    `getrusage` would count what its parent had before the exec.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status)
    return int(found[1]) / 2**20 if found else 0.0
