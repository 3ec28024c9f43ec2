"""The notebook runs from top to bottom."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
from pathlib import Path

import matplotlib as mpl
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "quickstart.ipynb"


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    """In a kernel of its own where nbclient is installed, else cell by cell in this process."""
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    shutil.copy(EXAMPLES / "scenes.py", tmp_path)
    if importlib.util.find_spec("nbclient") and importlib.util.find_spec("ipykernel"):
        import nbformat
        from nbclient import NotebookClient

        notebook = NotebookClient(nbformat.read(NOTEBOOK, 4), timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
        outputs = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())]
        printed = "".join(outputs)
    else:
        mpl.use("agg")
        namespace: dict[str, object] = {}
        with contextlib.chdir(tmp_path):
            for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
                if cell["cell_type"] == "code":
                    exec(compile("".join(cell["source"]), cell["id"], "exec"), namespace)
        printed = capsys.readouterr().out
    assert "image_auroc" in printed
    assert "miss_cost 20" in printed


def test_notebook_has_no_paths_of_the_machine_that_ran_it():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not [word for word in ("/tmp", "/home/", "/root", "Traceback") if word in text]
