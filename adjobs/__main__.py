"""The program ``adjobs``, also ``python -m adjobs``."""

import os
import signal
import sys
import threading

_STOPPED = (130, 143)  # exit statuses of Ctrl-C and SIGTERM
_SECONDS_TO_EXIT = 10.0


def run() -> None:
    """Run the command line. Ctrl-C is one line, also while modules are imported."""
    try:
        from adjobs.cli.main import main

        main(prog_name="adjobs")
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        _end(_STOPPED[0])
    except SystemExit as stop:
        if stop.code in _STOPPED:
            _end(stop.code)
        raise


def _end(status: int) -> None:
    """End a program that was stopped, even if a thread never does; a second Ctrl-C ends it at once, without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    deadline = threading.Timer(_SECONDS_TO_EXIT, os._exit, (status,))
    deadline.daemon = True
    deadline.start()
    sys.exit(status)


if __name__ == "__main__":
    run()
