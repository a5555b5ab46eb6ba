"""Chapters and the road's dry runs in this process: no kernel and no import of torch for each."""

import contextlib
import io
import os
import re
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import jupytext
import nbformat
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


CELLS = (
    'profile = "full"',
    "from brainvae_core.settings import read_settings\np = read_settings(globals())",
    "import pandas as pd\nfrom brainvae_core import figures\n"
    'figures.fig_deviations(pd.DataFrame({"brightness": [0.5, -2.0]})).shows("Two brains.")',
    "from brainvae_core.record import stamp\nstamp(p)",
)


def small_book(folder, own):
    """The project with a page and a chapter, and the profile ``tiny`` as given."""
    clone(folder)
    for path in (
        *folder.glob("notebooks/*.*"),
        *folder.glob("book/*.*"),
        *folder.glob("book/api/*"),
    ):
        path.unlink() if path.is_file() else shutil.rmtree(path)
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    cells[0].metadata["tags"] = ["parameters"]
    cells.insert(0, nbformat.v4.new_markdown_cell("# 1 · Brains"))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, folder / "notebooks/01_brains.ipynb")
    (folder / "notebooks/01_brains.py").write_text("\n\n".join(CELLS))
    (folder / "book/intro.md").write_text("# Brains\n")
    (folder / "book/references.bib").touch()
    toc = "format: jb-book\nroot: book/intro\nchapters: [{file: notebooks/01_brains}]\n"
    (folder / "_toc.yml").write_text(toc)
    (folder / "notebooks/params/tiny.yaml").write_text(own)


def tracebacks(errors):
    """Those of a text, but for other programs' imports and the last messages of a kernel."""
    found = re.split(r"(?m)^(?=Traceback)", errors)[1:]
    return [t for t in found if "<frozen importlib" not in t and "/zmq/" not in t]


def chapter(name, folder=NOTEBOOKS, **given):
    """A chapter's cells with parameters as given; what one raises is raised.

    Returns what they printed, what they told on stderr or warned of, and the kinds of what they
    showed.
    """
    cells = [c for c in jupytext.read(folder / f"{name}.py").cells if c["cell_type"] == "code"]
    sources = [c["source"] for c in cells]
    (at,) = (i for i, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", []))
    sources.insert(at + 1, "\n".join(f"{k} = {v!r}" for k, v in given.items()))
    printed, errors, kinds = [], [], []
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    try:
        with contextlib.chdir(folder):
            for source in sources:
                with warnings.catch_warnings(record=True) as warned, capture_output() as shown:
                    ended = shell.run_cell(source)
                ended.raise_error()
                errors += [shown.stderr, *(str(w.message) for w in warned)]
                printed += [shown.stdout, *(o.data.get("text/plain", "") for o in shown.outputs)]
                kinds += [kind for o in shown.outputs for kind in o.data]
    finally:
        shell.restore_sys_module_state()  # this process's own __main__
        InteractiveShell.clear_instance()
    return "\n".join(printed), "".join(errors), kinds


def snakemake(folder, *arguments):
    """Snakemake's exit code in a folder, and what it printed."""
    printed = io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        ThreadPoolExecutor(1) as beside,  # a browser of other tests leaves a loop of events in this
    ):
        ended = beside.submit(main, [*arguments]).exception()
    assert isinstance(ended, SystemExit), ended
    return ended.code, printed.getvalue()
