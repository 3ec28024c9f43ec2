"""The Unix sockets that SeaweedFS makes in ``/tmp``, named by its ports, and leaves when it ends.

Ports are no proof of whose they are: a home keeps those of its last start, while the stack of another home may have them now.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from adjobs.stack.config import OFFSETS

_FOLDER = Path("/tmp")


def delete_sockets(port_base: int) -> None:
    """Delete the sockets of a block of ports that this user's SeaweedFS has left; those of a running one stay."""
    ports = {str(port_base + offset) for offset in OFFSETS.values()}
    for path in _FOLDER.glob("seaweedfs-*-grpc-*.sock"):
        if path.stem.rpartition("-")[2] in ports and _is_left(path):
            path.unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    """Whether a socket is this user's and nobody listens on it: the system then refuses at once."""
    try:
        if path.lstat().st_uid != os.getuid():
            return False
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(str(path))
    except ConnectionRefusedError:
        return True
    except OSError:  # it is gone, no socket, or so busy that it takes no connection
        return False
    return False
