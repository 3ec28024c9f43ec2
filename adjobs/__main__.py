"""``python -m adjobs``: the command line."""

from adjobs.cli.main import main

if __name__ == "__main__":
    main(prog_name="adjobs")
