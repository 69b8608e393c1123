"""In a real Jupyter kernel: the scripts by %run, a training, and the README's ten lines."""

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
NotebookClient = pytest.importorskip("nbclient").NotebookClient
pytest.importorskip("ipykernel")
ROOT = Path(__file__).resolve().parent.parent


def run_cells(folder, *cells):
    """Run the cells in a new kernel in `folder` -> the text that each printed."""
    start = f"import os, sys; os.environ['OMP_NUM_THREADS'] = '1'; sys.path.insert(0, {str(ROOT)!r})"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (start, *cells)])
    NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    outputs = [cell.outputs for cell in notebook.cells[1:]]
    return ["".join(out.get("text", "") or out.data.get("text/plain", "") for out in each) for each in outputs]


def test_scripts_run_in_a_notebook(photos, tmp_path):
    small = "--width 4 --batch 4 --steps 3 --device cpu --log-every 1"
    trained, drawn, _ = run_cells(
        tmp_path,
        f"%run {ROOT}/train.py --data {photos} --out run {small}",
        f"%run {ROOT}/sample.py run --device cpu",
        "from train import parse_options, train",
    )
    assert "3 steps done" in trained and trained.count("\n") < 9  # progress is rare, not a line for each step
    assert "grid-000003.png" in drawn and (tmp_path / "run/grid-000003.png").exists()


def test_the_ten_lines_run_in_a_notebook(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^>>> (.*)$", text, re.MULTILINE)
    assert len(lines) >= 8
    run_cells(tmp_path, *lines)
    assert (tmp_path / "dog.png").exists()
