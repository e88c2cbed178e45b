"""What a process may run out of for a while, which is no fault of the file that it opens."""

from __future__ import annotations

import errno

_LACKS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN))


def lacks(fault: OSError) -> bool:
    """Whether files or memory were lacking: the same may work later."""
    return fault.errno in _LACKS
