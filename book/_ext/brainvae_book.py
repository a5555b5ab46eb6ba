"""What this book asks of Sphinx: fresh chapters, the verdicts, and names for cells and figures.

- A chapter whose cells or settings changed since it was executed stops the build. Whether the
  library still gives its numbers is shown by executing it again: `make test`, `make nightly`.
- The verdicts' tables are made from what the executed notebooks recorded.
- Every cell can be linked to, and every figure has its caption as alternative text.
"""

import html
import json
import re
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

import yaml
from chapters import (
    disagreement,
    made_on,
    quoted_of,
    read_notebook,
    record_of,
    stamp_of,
    why_stale,
)
from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

# A true effect so many half-intervals large lies above zero in four studies of five.
DETECTED = (1.96 + 0.84) / 1.96


def notebooks(srcdir):
    """Every chapter's executed notebook, by name."""
    paths = sorted(Path(srcdir, "notebooks").glob("*.ipynb"))
    try:
        return {path.stem: read_notebook(path) for path in paths}
    except ValueError as error:
        raise ExtensionError(str(error)) from error


def refuse_stale_chapters(app):
    chapters = notebooks(app.srcdir)
    stale = {name: why for name, notebook in chapters.items() if (why := why_stale(notebook))}
    if stale:
        reasons = "; ".join(f"notebooks/{name}.ipynb: {why}" for name, why in stale.items())
        raise ExtensionError(f"stale chapters, execute them again (make notebooks): {reasons}")
    if apart := disagreement(chapters):
        raise ExtensionError(apart)


def without_thebe(app, config):
    """Jupyter Book always loads it; its script, unused here, names a server and breaks pages."""
    for listeners in app.events.listeners.values():
        listeners[:] = [x for x in listeners if not x.handler.__module__.startswith("sphinx_thebe")]
    styles = app.registry.css_files
    styles[:] = [style for style in styles if "thebe" not in style[0]]


class NamedCells(SphinxPostTransform):
    """An id for every code cell; a figure's caption as its alternative text."""

    default_priority = 3  # before one output of each bundle is chosen

    def run(self, **options):
        for node in self.document.findall(nodes.container):
            kind = node.get("nb_element")
            if kind == "cell_code":
                node["ids"].append(f"cell-{node['cell_index']}")
            if kind == "mime_bundle":
                titles = [n.astext() for n in node.children if n["mime_type"] == "text/plain"]
                for image in node.findall(nodes.image):
                    image["alt"] = titles[0] if titles else ""


class Verdicts(SphinxDirective):
    """A table of the verdicts: ``figures`` or ``claims``, as book/verdicts.yaml lists them."""

    required_arguments = 1

    def run(self):
        listed = Path(self.env.srcdir, "book/verdicts.yaml")
        self.env.note_dependency(str(listed))
        rows = yaml.safe_load(listed.read_text())[self.arguments[0]]
        self.chapters = notebooks(self.env.srcdir)
        self.records = {name: record_of(notebook) for name, notebook in self.chapters.items()}
        first = self.chapters["01_brains"]
        self.committed = stamp_of(first)["settings"]["profile"] == "full"
        here = f"This book: {made_on(first)}"
        if self.arguments[0] == "figures":
            heads = ["The paper", "What it shows", here, "How it differs"]
            return [self.table(heads, [1, 2, 3, 3], [self.of_figure(row) for row in rows])]
        heads = ["The paper, and how it is measured here", here]
        return [self.table(heads, [2, 3], [self.of_claim(row) for row in rows])]

    def of_figure(self, row):
        made = self.cell_link(row["made by"])
        _, outputs = self.cell_of(row["made by"])
        shown = "".join("".join(o.get("data", {}).get("text/html", "")) for o in outputs)
        if source := re.search(r'class="source">(.*?)</span>', shown):
            made += nodes.Text(f": {html.unescape(source[1])}")
        return [[self.text(row["paper"])], [self.text(row["shows"])], [made], self.differs(row)]

    def of_claim(self, row):
        if "see" in row:
            found = self.cell_link(row["see"])
        else:
            pairs = [part.split(": ", 1) for part in row["ours"]]
            found = nodes.bullet_list("", *(item for part in pairs for item in self.found(*part)))
        claim = self.text(row["paper"])
        claim["classes"].append("claim")
        return [[claim, *self.differs(row)], [found]]

    def found(self, chapter, pattern):
        """Every number that a pattern names, with n and a link to its cell; a claim's together."""
        of_chapter = self.records.get(chapter, {})
        names = [name for name in of_chapter if fnmatchcase(name, pattern)]
        if not names and self.committed:
            known = ", ".join(of_chapter) or "nothing"
            raise ExtensionError(f"verdicts: {chapter} recorded no {pattern!r} but {known}")
        if not names:
            missing = nodes.paragraph("", f"{pattern}: not recorded with this profile")
            return [nodes.list_item("", missing)]
        of_claims = groupby((of_chapter[name] for name in names), key=self.claimed)
        return [nodes.list_item("", self.sentence(chapter, *both)) for both in of_claims]

    def claimed(self, row):
        """What a line of the table is of: a claim with all its settings, or numbers of one name."""
        if "verdict" in row:
            return row["number"].partition(" (")[0], row["verdict"], row.get("margin", "")
        return row["number"].partition(", ")[0], "", ""

    def sentence(self, chapter, claimed, rows):
        (claim, verdict, margin), rows = claimed, list(rows)
        counts = {row["n"] for row in rows}
        line = nodes.paragraph()
        line += [nodes.strong("", verdict), nodes.Text(": ")] if verdict else []
        line += nodes.Text(claim)
        for i, row in enumerate(rows):
            setting = row["number"][len(claim) + 2 : -1 if verdict else None]
            line += nodes.Text(("; " if i else ": ") + (f"{setting} " if setting else ""))
            line += self.link(chapter, row["cell"], row["found"])
            of_its_own = row["n"] and (not verdict or len(counts) > 1)
            line += nodes.Text(f" ({row['n']})" if of_its_own else "")
        if verdict:
            rest = [*counts] if len(counts) == 1 else []
            if None not in (ends := [row[end] for row in rows for end in ("low", "high")]):
                widest = max(high - low for low, high in zip(ends[::2], ends[1::2], strict=True))
                rest += [f"detectable {DETECTED * widest / 2:.2g}"] if widest else []
            rest += [f"margin {margin}"] if margin else []
            line += nodes.Text(f" ({', '.join(filter(None, rest))})")
        return line

    def differs(self, row):
        return [self.text(row["differs"])] if row.get("differs") else []

    def cell_of(self, made_by):
        """Position and outputs of the cell of a chapter that calls a figure function."""
        chapter, call = made_by.split(".")
        for position, cell in enumerate(self.chapters[chapter]["cells"]):
            if f"figures.{call}(" in "".join(cell["source"]):
                return position, cell["outputs"]
        raise ExtensionError(f"verdicts: no cell of {chapter} calls figures.{call}")

    def cell_link(self, made_by):
        chapter, (position, _) = made_by.split(".")[0], self.cell_of(made_by)
        link = self.link(chapter, position, f"chapter {int(chapter[:2])}")
        return nodes.paragraph("", "", link)

    def link(self, chapter, cell, text):
        uri = f"../notebooks/{chapter}.html#cell-{cell}"
        return nodes.reference("", text, refuri=uri, internal=True)

    def text(self, markdown):
        """A paragraph of inline Markdown."""
        parent = nodes.Element()
        self.state.nested_parse([markdown], 0, parent)
        return parent[0] if len(parent) else nodes.paragraph("", markdown)

    def table(self, heads, widths, rows):
        group = nodes.tgroup("", cols=len(heads))
        group += [nodes.colspec("", colwidth=width) for width in widths]
        head, body = nodes.thead(), nodes.tbody()
        head += nodes.row("", *(nodes.entry("", nodes.paragraph("", h)) for h in heads))
        body += [nodes.row("", *(nodes.entry("", *cell) for cell in row)) for row in rows]
        group += [head, body]
        return nodes.table("", group, classes=["verdicts", "colwidths-given"])


def quoted(name, rawtext, text, lineno, inliner, options=None, content=None):
    """``{quoted}`04_grid: grid_latents```: what a chapter's run quotes or recorded."""
    env, (chapter, key) = inliner.document.settings.env, text.split(": ", 1)
    path = Path(env.srcdir, f"notebooks/{chapter}.ipynb")
    env.note_dependency(str(path))
    notebook = json.loads(path.read_text())  # read_notebook has seen it
    found = {k: row["found"] for k, row in record_of(notebook).items()} | quoted_of(notebook)
    if key not in found:
        raise ExtensionError(f"{env.docname}: {chapter} quotes no {key!r} but {', '.join(found)}")
    return [nodes.Text(found[key])], []


def setup(app):
    app.connect("config-inited", without_thebe)
    app.connect("builder-inited", refuse_stale_chapters)
    app.add_post_transform(NamedCells)
    app.add_directive("verdicts", Verdicts)
    app.add_role("quoted", quoted)
    return {"parallel_read_safe": True}
