"""The program ``adjobs``, also ``python -m adjobs``."""

import signal
import sys


def run() -> None:
    """Run the command line. Ctrl-C is one line, also while modules are imported."""
    try:
        from adjobs.cli.main import main

        main(prog_name="adjobs")
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends what still runs, without a traceback


if __name__ == "__main__":
    run()
