"""Chapters and the road's dry runs in this process: no kernel and no import of torch for each."""

import contextlib
import io
import os
import shutil
import warnings
from pathlib import Path
from unittest import mock

import jupytext
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from snakemake.cli import main
from traitlets.config import Config

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
TREE = ("workflow", "notebooks", "book", "brainvae_core", "benchmarks", "_config.yml", "_toc.yml")
TREE += ("Makefile", "pyproject.toml", "constraints.txt", "constraints-acquire.txt")


def clone(folder):
    """A copy of what the road reads, so that nothing is written into this project."""
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in TREE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def chapter(name, folder=NOTEBOOKS, **given):
    """A chapter's cells with parameters as given; what one raises is raised.

    Returns what they printed, what they told on stderr or warned of, and the kinds of what they
    showed.
    """
    cells = [c for c in jupytext.read(folder / f"{name}.py").cells if c["cell_type"] == "code"]
    sources = [c["source"] for c in cells]
    (at,) = (i for i, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", []))
    sources.insert(at + 1, "\n".join(f"{k} = {v!r}" for k, v in given.items()))
    printed, told, kinds = [], [], []
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    try:
        with contextlib.chdir(folder):
            for source in sources:
                with warnings.catch_warnings(record=True) as warned, capture_output() as shown:
                    ended = shell.run_cell(source)
                ended.raise_error()
                told += [shown.stderr, *(str(w.message) for w in warned)]
                printed += [shown.stdout, *(o.data.get("text/plain", "") for o in shown.outputs)]
                kinds += [kind for o in shown.outputs for kind in o.data]
    finally:
        shell.restore_sys_module_state()  # this process's own __main__
        InteractiveShell.clear_instance()
    return "\n".join(printed), "".join(told), kinds


def snakemake(folder, *arguments):
    """Snakemake's exit code in a folder, and what it printed."""
    printed = io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        try:
            main([*arguments])
        except SystemExit as ended:
            return ended.code, printed.getvalue()
    raise AssertionError("Snakemake did not end")
