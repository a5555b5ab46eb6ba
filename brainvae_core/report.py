"""A lab's report: chapter 11 on its brains, as one page without code.

``python -m brainvae_core.report folder --group genotype --covariates "sex, age_days"``
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import os
import re
import sys
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter

from brainvae_core.disk import stoppable
from brainvae_core.lab import add_page, publish_report, writing_report
from brainvae_core.settings import read_profile

PROJECT = Path(__file__).parents[1]
CHAPTER = PROJECT / "notebooks/11_your_brains.ipynb"
BOOK = PROJECT / "_build/html"
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)\.(?:md|ipynb)(#[^)\s]*)?\)")  # to a page of the book
STOPPED = "interrupted; an earlier report is as it was"
PICTURES = ("image/png", "image/svg+xml")


@stoppable(f"error: {STOPPED}")
def main(arguments=None) -> int:
    """Write ``report.html`` beside the tables and pictures of these brains; 2 where it cannot.

    They appear when all are there, in the place of an earlier report of the same brains.
    """
    parser = argparse.ArgumentParser(prog="python -m brainvae_core.report", description=__doc__)
    add = parser.add_argument
    add("brains", nargs="?", default="simulated", help="a folder, or one brain")
    add("--group", default="", help="the column of metadata.csv that tells groups")
    add("--covariates", default="", help="other columns, with commas between")
    add("--orientation", default="header", help="as files say, or such as asr")
    add("--profile", default="full", help="the reference cohort and its model")
    given = parser.parse_args(arguments)
    is_example = given.brains == "simulated"
    brains = given.brains if is_example else os.path.abspath(given.brains)
    if given.profile.endswith((".yaml", ".yml")):  # the chapter runs in another folder
        given.profile = os.path.abspath(given.profile)
    group = given.group or ("group" if is_example else "")
    covariates = [name.strip() for name in given.covariates.split(",") if name.strip()]
    gone = {"book": True, "example": not is_example, "groups": not group}
    gone = {tag for tag, is_gone in gone.items() if is_gone}
    os.environ.setdefault("TQDM_DISABLE", "1")  # of the chapter's kernel, whose lines are the page
    try:
        reports = (CHAPTER.parent / read_profile(given.profile).places.reports).resolve()
        with writing_report(reports, "example" if is_example else Path(brains).name) as own:
            parameters = {
                "profile": given.profile,
                "brains": brains,
                "settings": f"lab.orientation={given.orientation}, "
                f"places.reports={json.dumps(str(own), ensure_ascii=False)}",
                "group": group,
                "covariates": covariates,
            }
            chapter = nbformat.read(CHAPTER, 4)
            chapter.cells = [c for c in chapter.cells if "book" not in c.metadata.get("tags", ())]
            nbformat.write(chapter, Path(own, "chapter.ipynb"))
            given_to = [Path(own, f"{name}.ipynb") for name in ("chapter", "report")]
            notebook = papermill.execute_notebook(*given_to, parameters, cwd=CHAPTER.parent)
            (new,) = (entry for entry in own.iterdir() if entry.is_dir())
            add_page(new, page_of(notebook, new.name, gone))
            out = publish_report(new, reports)
    except papermill.PapermillExecutionError as error:
        kind = "" if error.ename in ("ValueError", "FileNotFoundError") else f"{error.ename}: "
        return _failed(f"{kind}{error.evalue}")
    except DeadKernelError:
        return _failed("the chapter's kernel ended; was there too little memory?")
    except (ValueError, OSError) as error:
        if getattr(error, "errno", None) and not error.filename:  # of a full disk
            error = f"no report can be written in {reports} ({error.strerror}); see to its disk"
        return _failed(error)
    except KeyboardInterrupt:
        return _failed(STOPPED)
    print(f"the report is at {(out / 'report.html').as_uri()}; tables and pictures lie beside it")
    return 0


def page_of(notebook, name: str, gone: set[str]) -> str:
    """An executed chapter 11 as HTML, without cells of some tags; what is left out comes first."""
    tags = [{*cell.metadata.get("tags", ())} for cell in notebook.cells]
    kept = [(c, of) for c, of in zip(notebook.cells, tags, strict=True) if not of & gone]
    cells = [cell for cell, of in kept if "read" not in of]
    (after,) = (i for i, c in enumerate(cells, 1) if "left-out" in c.metadata.get("tags", ()))
    cells[after:after] = [cell for cell, of in kept if "read" in of]
    cells[0] = nbformat.v4.new_markdown_cell(re.sub("^# .*", f"# {name}", cells[0].source))
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(_link, cell.source)
        for output in cell.get("outputs", ()):
            _put_words(output)
            if output.output_type == "stream":  # where it was written until it was whole
                output.text = re.sub(r"(; )?places\.reports = '.*?'", "", output.text)
    notebook.cells = cells
    exporter = HTMLExporter(
        exclude_input=True, exclude_output_prompt=True, mathjax_url="", require_js_url=""
    )
    return exporter.from_notebook_node(notebook, {"metadata": {"name": name}})[0]


def _link(found):
    """A link to the rendered book where it is, else its words."""
    page = (BOOK / "notebooks" / f"{found[2]}.html").resolve()
    return f"[{found[1]}]({page.as_uri()}{found[3] or ''})" if page.is_file() else found[1]


def _put_words(output):
    """A picture's text as its alternative text."""
    data = output.get("data", {})
    for kind in {*PICTURES} & data.keys():
        picture, words = data[kind], html.escape(data["text/plain"])
        if kind == "image/svg+xml":
            picture = base64.b64encode(picture.encode()).decode()
        image = f'<img alt="{words}" src="data:{kind};base64,{picture}">'
        output.data = {"text/html": image}


def _failed(why):
    print(f"error: {why}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
