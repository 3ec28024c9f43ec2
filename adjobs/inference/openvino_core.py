"""OpenVINO's core, the only one of this process.

With its first model on a processor, OpenVINO 2026.4 gives the calling thread a stack for signal handlers, and takes it away with
the core. Where several cores come and go, one is left that exists no more, and the next signal ends the process: Ctrl-C as well.
"""

from __future__ import annotations

import openvino

CORE = openvino.Core()
CORE.set_property({"ENABLE_MMAP": False})  # files may be deleted
