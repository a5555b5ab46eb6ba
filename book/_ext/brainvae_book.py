"""What this book asks of Sphinx: fresh chapters, the ledger, and names for cells and figures.

- A chapter whose cells or settings changed since it was executed stops the build. Whether the
  library still gives its numbers is shown by executing it again: `make test`, `make nightly`.
- The ledger's tables are made from what the executed notebooks recorded.
- Every cell can be linked to, and every figure has its caption as alternative text.
"""

import html
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from chapters import disagreement, made_on, record_of, stamp_of, why_stale
from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective


def notebooks(srcdir):
    """Every chapter's executed notebook, by name."""
    paths = sorted(Path(srcdir, "notebooks").glob("*.ipynb"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def refuse_stale_chapters(app):
    chapters = notebooks(app.srcdir)
    stale = {name: why for name, notebook in chapters.items() if (why := why_stale(notebook))}
    if stale:
        told = "; ".join(f"notebooks/{name}.ipynb: {why}" for name, why in stale.items())
        raise ExtensionError(f"stale chapters, execute them again (make notebooks): {told}")
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
                told = [n.astext() for n in node.children if n["mime_type"] == "text/plain"]
                for image in node.findall(nodes.image):
                    image["alt"] = told[0] if told else ""


class Ledger(SphinxDirective):
    """A table of the ledger: ``figures`` or ``numbers``, as book/ledger.yaml lists them."""

    required_arguments = 1

    def run(self):
        book = Path(self.env.srcdir, "book")
        for path in (book / "ledger.yaml", *book.glob("records/*.json")):
            self.env.note_dependency(str(path))
        rows = yaml.safe_load((book / "ledger.yaml").read_text())[self.arguments[0]]
        self.chapters = notebooks(self.env.srcdir)
        self.records = {name: record_of(notebook) for name, notebook in self.chapters.items()}
        here = stamp_of(self.chapters["01_brains"])["settings"]["profile"]
        self.demo = here == "demo"
        others = {p.stem: json.loads(p.read_text()) for p in sorted(book.glob("records/*.json"))}
        others.pop(here, None)
        heads = [f"This book: {made_on(self.chapters['01_brains'])}"]
        if self.arguments[0] == "figures":
            heads = ["The paper", "What it shows", *heads, "How it differs"]
            return [self.table(heads, [self.of_figure(row) for row in rows])]
        heads += [f"Profile {name}: {self.told_of(kept)}" for name, kept in others.items()]
        heads = ["The paper", *heads, "How it differs"]
        return [self.table(heads, [self.of_number(row, others.values()) for row in rows])]

    def told_of(self, kept):
        """What another book was made on, and whether its chapters have changed since."""
        now = {name: stamp_of(notebook)["cells"] for name, notebook in self.chapters.items()}
        changed = [n[:2] for n, cells in kept["cells"].items() if now.get(n) != cells]
        since = f"; before chapters {', '.join(changed)} were changed" if changed else ""
        return f"{kept['made_on']}{since}"

    def of_figure(self, row):
        made = self.cell_link(row["made by"])
        _, outputs = self.cell_of(row["made by"])
        shown = "".join("".join(o.get("data", {}).get("text/html", "")) for o in outputs)
        if source := re.search(r'class="source">(.*?)</span>', shown):
            made += nodes.Text(f": {html.unescape(source[1])}")
        return [[self.text(row["paper"])], [self.text(row["shows"])], [made], self.differs(row)]

    def of_number(self, row, others):
        asked = [part.split(": ", 1) for part in row.get("ours", [])]
        columns = [self.found(asked, self.records, linked=True)]
        columns += [self.found(asked, other["chapters"]) for other in others]
        if "see" in row:
            columns[0] = [self.cell_link(row["see"])]
        return [[self.text(row["paper"])], *columns, self.differs(row)]

    def found(self, asked, records, linked=False):
        """A list of the numbers that patterns name, each with n and, here, a link to its cell."""
        items = []
        for chapter, pattern in asked:
            of_chapter = records.get(chapter, {})
            names = [name for name in of_chapter if fnmatchcase(name, pattern)]
            if not names and linked and self.demo:
                known = ", ".join(of_chapter) or "nothing"
                raise ExtensionError(f"ledger: {chapter} recorded no {pattern!r} but {known}")
            if not names:
                missing = nodes.paragraph("", f"{pattern}: not recorded with this profile")
                items.append(nodes.list_item("", missing))
            for row in (of_chapter[name] for name in names):
                number = nodes.strong("", row["found"])
                if linked:
                    number = self.link(chapter, row["cell"], row["found"])
                told = nodes.paragraph("", f"{row['number']}: ")
                told += [number, nodes.Text(f" ({row['n']})" if row["n"] else "")]
                if "verdict" in row:
                    told += [nodes.Text("; "), nodes.emphasis("", row["verdict"])]
                if "margin" in row:
                    told += nodes.Text(f", margin {row['margin']}")
                items.append(nodes.list_item("", told))
        return [nodes.bullet_list("", *items)] if items else []

    def differs(self, row):
        return [self.text(row["differs"])] if row.get("differs") else []

    def cell_of(self, made_by):
        """Position and outputs of the cell of a chapter that calls a figure function."""
        chapter, call = made_by.split(".")
        for position, cell in enumerate(self.chapters[chapter]["cells"]):
            if f"figures.{call}(" in "".join(cell["source"]):
                return position, cell["outputs"]
        raise ExtensionError(f"ledger: no cell of {chapter} calls figures.{call}")

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

    def table(self, heads, rows):
        group = nodes.tgroup("", cols=len(heads))
        group += [nodes.colspec("", colwidth=1) for _ in heads]
        head, body = nodes.thead(), nodes.tbody()
        head += nodes.row("", *(nodes.entry("", nodes.paragraph("", h)) for h in heads))
        body += [nodes.row("", *(nodes.entry("", *cell) for cell in row)) for row in rows]
        group += [head, body]
        return nodes.table("", group, classes=["ledger"])


def setup(app):
    app.connect("config-inited", without_thebe)
    app.connect("builder-inited", refuse_stale_chapters)
    app.add_post_transform(NamedCells)
    app.add_directive("ledger", Ledger)
    return {"parallel_read_safe": True}
