"""What an executed notebook says it was made with, and when the book refuses it."""

import copy
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from sphinx.errors import ExtensionError

from brainvae_core import stamp as stamps
from brainvae_core.profile import Parameters
from brainvae_core.stamp import cells_hash, parameters_hash, stamp_of, why_stale

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book/_ext"))
import brainvae_book  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A notebook of three cells, executed here on a small cohort."""
    folder = tmp_path_factory.mktemp("stamped")
    cells = [
        f'n_brains = 12\nheight = 40\nwidth = 56\ndata = "{folder}"\nbeta = 2.0',
        "from brainvae_core.profile import read_parameters\n\np = read_parameters(globals())",
        "x = 3  # three",
        "from brainvae_core.stamp import stamp\n\nstamp(p)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    NotebookClient(notebook, kernel_name="python3").execute()
    return json.loads(nbformat.writes(notebook))


def changed(notebook, cell, before, after):
    copied = copy.deepcopy(notebook)
    source = "".join(copied["cells"][cell]["source"])
    assert before in source
    copied["cells"][cell]["source"] = source.replace(before, after)
    return copied


def test_a_notebook_that_was_just_executed_is_fresh(executed):
    assert why_stale(executed) == ""
    found = stamp_of(executed)
    assert found.library == stamps.library_hash()
    assert all(len(value) == 12 for value in vars(found).values())


def test_what_makes_other_outputs_makes_it_stale(executed, monkeypatch):
    assert why_stale(changed(executed, 0, "beta = 2.0", "beta = 3.0")) == (
        "its parameters changed since it was executed"
    )
    assert why_stale(changed(executed, 2, "x = 3", "x = 4")) == (
        "its cells changed since it was executed"
    )
    monkeypatch.setattr(stamps, "library_hash", lambda: "another")
    assert why_stale(executed) == "its library changed since it was executed"


def test_comments_and_places_do_not(executed):
    assert why_stale(changed(executed, 2, "  # three", "  # a comment")) == ""
    assert why_stale(changed(executed, 0, "data = ", 'device = "cpu"\ndata = ')) == ""


def test_a_notebook_without_all_its_outputs_is_refused(executed):
    empty = copy.deepcopy(executed)
    empty["cells"][-1]["outputs"] = []
    assert "no stamp at its foot" in why_stale(empty)
    failed = copy.deepcopy(executed)
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no\nmore", "traceback": []}
    failed["cells"][2]["outputs"] = [error]
    assert why_stale(failed) == "it ended with ValueError: no"


def test_parameters_that_say_where_are_no_part_of_the_hash():
    assert parameters_hash(Parameters(device="cpu", together=5)) == parameters_hash(Parameters())
    assert parameters_hash(Parameters(muon_rate=0.03)) != parameters_hash(Parameters())


def test_an_injected_cell_of_parameters_is_no_cell():
    assert cells_hash(["beta = 3.0", "beta = 4.0", "f(x)"]) == cells_hash(["f(x) # why"])
    assert cells_hash(["f(x)"]) != cells_hash(["f(y)"])


def test_the_library_hash_sees_code_and_not_words(tmp_path, monkeypatch):
    room = tmp_path / "figures"
    room.mkdir()
    monkeypatch.setattr(stamps.brainvae_core, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "a.py").write_text('"""Words."""\n\n\ndef f():\n    """Words."""\n    return 1\n')
    (room / "b.py").write_text('def fig():\n    """A caption."""\n')
    seen = []
    for path, before, after in (
        (tmp_path / "a.py", "", ""),
        (tmp_path / "a.py", "Words", "Other words"),
        (tmp_path / "a.py", "return 1", "return 1  # one"),
        (tmp_path / "a.py", "return 1", "return 2"),
        (room / "b.py", "A caption", "Another caption"),
    ):
        path.write_text(path.read_text().replace(before, after) if before else path.read_text())
        stamps.library_hash.cache_clear()
        seen.append(stamps.library_hash())
    stamps.library_hash.cache_clear()
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen)) == 3


def test_every_python_makes_the_same_of_the_same_code():
    # Written down once: newer Pythons have further fields in their syntax trees, which are empty.
    cell = "class A(B):\n    def f(self, x=1, *y):\n        return f'{x!r:{y[0]}}' + y[0]\n"
    assert cells_hash([cell]) == "7c04c2f596ad"


def book_of(folder, notebooks):
    (folder / "notebooks").mkdir(parents=True)
    for name, notebook in notebooks.items():
        (folder / f"notebooks/{name}.ipynb").write_text(json.dumps(notebook))
    return SimpleNamespace(srcdir=folder)


def test_a_book_with_a_stale_chapter_does_not_build(tmp_path, executed):
    brainvae_book.refuse_stale_chapters(book_of(tmp_path / "a", {"01": executed, "02": executed}))
    stale = changed(executed, 2, "x = 3", "x = 4")
    with pytest.raises(ExtensionError, match="notebooks/02.ipynb: its cells changed"):
        brainvae_book.refuse_stale_chapters(book_of(tmp_path / "b", {"01": executed, "02": stale}))


def test_a_book_of_two_cohorts_does_not_build(tmp_path, executed):
    other = copy.deepcopy(executed)
    (output,) = other["cells"][-1]["outputs"]
    text = "".join(output["data"]["text/plain"])
    output["data"]["text/plain"] = text[:-12] + "0123456789ab"
    with pytest.raises(ExtensionError, match="different cohorts"):
        brainvae_book.refuse_stale_chapters(book_of(tmp_path, {"01": executed, "02": other}))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_committed_chapters_are_fresh(path):
    assert why_stale(json.loads(path.read_text())) == ""


def test_the_committed_chapters_are_of_one_cohort():
    found = [stamp_of(json.loads(path.read_text())) for path in NOTEBOOKS]
    assert len({s.cohort for s in found if s}) == 1
