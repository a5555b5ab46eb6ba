"""A lab's report: chapter 19 on its brains, as one page without code.

``python -m brainvae_core.report folder --group genotype --covariates "sex, age_days"``
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import papermill
from nbconvert import HTMLExporter

from brainvae_core.settings import read_profile

CHAPTER = Path(__file__).parents[1] / "notebooks/19_your_brains.ipynb"
LEFT = ("report.html", "contact_sheet.png", "brains.csv", "differences.csv", "power.csv")
LEFT += ("cleaned.npz",)
FOUND = "**Found.**"  # begins what the chapter tells of its own example


def main(arguments=None) -> int:
    """Write ``report.html`` beside the tables and pictures of these brains; 2 where it cannot."""
    parser = argparse.ArgumentParser(prog="python -m brainvae_core.report", description=__doc__)
    parser.add_argument("brains", nargs="?", default="simulated", help="a folder, or one brain")
    parser.add_argument("--group", default="", help="the column of metadata.csv that tells groups")
    parser.add_argument("--covariates", default="", help="other columns, with commas between")
    parser.add_argument("--orientation", default="header", help="as files say, or such as asr")
    parser.add_argument("--profile", default="demo", help="the reference cohort and its model")
    given = parser.parse_args(arguments)
    is_example = given.brains == "simulated"
    brains = given.brains if is_example else os.path.abspath(given.brains)
    if given.profile.endswith((".yaml", ".yml")):  # the chapter runs in another folder
        given.profile = os.path.abspath(given.profile)
    try:
        reports = CHAPTER.parent / read_profile(given.profile).places.reports
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out = reports.resolve() / ("example" if is_example else Path(brains).name)
    out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    os.environ.setdefault("TQDM_DISABLE", "1")  # of the chapter's kernel, whose lines are the page
    told = {
        "profile": given.profile,
        "brains": brains,
        "settings": f"lab.orientation={given.orientation}",
        "group": given.group or ("group" if is_example else ""),
        "covariates": [name.strip() for name in given.covariates.split(",") if name.strip()],
    }
    executed, page = out / ".report.ipynb", out / ".report.html"
    try:
        notebook = papermill.execute_notebook(CHAPTER, executed, told, cwd=CHAPTER.parent)
        if not is_example:
            notebook.cells = [c for c in notebook.cells if not c.source.startswith(FOUND)]
        exporter = HTMLExporter(exclude_input=True, mathjax_url="", require_js_url="")
        page.write_text(exporter.from_notebook_node(notebook)[0], encoding="utf-8")
        os.replace(page, out / "report.html")
        for left in map(out.joinpath, LEFT):  # of an earlier report, which may have asked for more
            if left.exists() and left.stat().st_mtime < started:
                left.unlink()
    except papermill.PapermillExecutionError as error:
        print(f"error: {error.evalue}", file=sys.stderr)
        return 2
    finally:
        executed.unlink(missing_ok=True)
        page.unlink(missing_ok=True)
        if not any(out.iterdir()):
            out.rmdir()
    print(f"the report is at {(out / 'report.html').as_uri()}; tables and pictures lie beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
