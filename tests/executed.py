"""Chapters and dry runs of the road in this process: no kernel and no import of torch for each."""

import contextlib
import io
import os
import warnings
from pathlib import Path
from unittest import mock

import jupytext
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from snakemake.cli import main
from traitlets.config import Config

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def chapter(name, folder=NOTEBOOKS, **given):
    """What a chapter's cells printed, and the kinds of what they showed, with parameters as given.

    What a cell raises is raised; what it warns of or writes to stderr is an AssertionError.
    """
    cells = [c for c in jupytext.read(folder / f"{name}.py").cells if c["cell_type"] == "code"]
    sources = [c["source"] for c in cells]
    (at,) = (i for i, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", []))
    sources.insert(at + 1, "\n".join(f"{k} = {v!r}" for k, v in given.items()))
    printed, kinds = [], []
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    try:
        with contextlib.chdir(folder):
            for source in sources:
                with warnings.catch_warnings(record=True) as told, capture_output() as shown:
                    ended = shell.run_cell(source)
                ended.raise_error()
                assert not told and not shown.stderr, f"{source}\n{told}\n{shown.stderr}"
                printed += [shown.stdout, *(o.data.get("text/plain", "") for o in shown.outputs)]
                kinds += [kind for o in shown.outputs for kind in o.data]
    finally:
        InteractiveShell.clear_instance()
    return "\n".join(printed), kinds


def dry_run(folder, *arguments):
    """Snakemake's exit code for a dry run in a folder, and what it printed."""
    printed = io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        try:
            main(["-n", *arguments])
        except SystemExit as ended:
            return ended.code, printed.getvalue()
    raise AssertionError("Snakemake did not end")
