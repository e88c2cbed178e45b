"""Keep what a process has in memory from core dumps, from other processes of the same user, and from swap.

Python cannot overwrite values that it frees, so keys stay in memory for a while after their use. What reads
memory from outside is therefore shut out: dumps that the kernel writes when a process crashes, debuggers and
`/proc/<pid>/mem` (prctl(2), PR_SET_DUMPABLE), and with `lock_memory` the swap device (mlockall(2)). Root
reads everything.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

from sonant.errors import SetupError

#: linux/prctl.h and asm-generic/mman.h.
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def protect_memory(*, core_dumps: bool, lock: bool) -> None:
    """Protect this process's memory as the settings `core_dumps` and `lock_memory` say.

    Raises SetupError when it cannot be locked.
    """
    if not core_dumps:
        forbid_reading()
    if lock:
        _lock_memory()


def forbid_reading() -> None:
    """Forbid core dumps, and reading by other processes of the same user, for the life of this process.

    The limit is inherited by the processes that this one starts, the second is not: each must call this.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def is_readable() -> bool:
    """Return whether a crash may dump this process's memory, or other processes of the user may read it."""
    return sys.platform != "linux" or int(_libc().prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)) == 1


def _lock_memory() -> None:
    """Keep all pages out of swap, those that come later too.

    Only with no limit: beyond one, every later request for memory would fail.
    """
    if sys.platform != "linux":
        raise SetupError("lock_memory: memory can be locked on Linux only")
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
        soft = hard
    unlimited = soft == resource.RLIM_INFINITY
    if not unlimited or _libc().mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        reason = os.strerror(ctypes.get_errno()) if unlimited else f"the limit is {soft} bytes"
        raise SetupError(
            f"lock_memory: memory cannot be locked ({reason}): set LimitMEMLOCK=infinity in the systemd unit "
            "(`ulimit -l unlimited`, for containers `--ulimit memlock=-1`), or switch off swap instead"
        )


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
