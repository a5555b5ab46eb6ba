"""The project around the library: notebooks, book and environment say one thing."""

import graphlib
import json
import os
import re
import subprocess
from pathlib import Path

import grimp
import jupytext
import pytest
from chapters import quoted_of
from executed import chapter
from promises import marked, written

from brainvae_core.models import BetaVAEConfig
from brainvae_core.models.config import PAPER
from brainvae_core.settings import full_name, read_profile, read_settings

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def code_cells(path):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def test_there_are_notebooks_and_each_is_in_the_book():
    chapters = re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text())
    assert {f"notebooks/{p.stem}" for p in NOTEBOOKS} == {
        c for c in chapters if c.startswith("notebooks/")
    }
    assert all((ROOT / f"{c}.md").is_file() for c in chapters if c.startswith("book/"))
    assert {p.stem for p in NOTEBOOKS} == {p.stem for p in (ROOT / "notebooks").glob("*.py")}
    assert len(NOTEBOOKS) == 11


@each_notebook
def test_notebook_and_script_are_one(path):
    script = path.with_suffix(".py")
    from_notebook = jupytext.writes(jupytext.read(path), "py:percent")
    wanted = script.read_text()
    body = re.compile(r"^# ---$.*?^# ---$\n*", re.S | re.M)
    assert body.sub("", from_notebook, 1).strip() == body.sub("", wanted, 1).strip()


@each_notebook
def test_the_committed_outputs_are_whole_and_compared(path):
    cells = [c for c in code_cells(path) if source(c).strip()]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    outputs = [o for c in cells for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    shown = ["".join(o.get("data", {}).get("text/plain", "")) for o in outputs]
    assert not [text for text in shown if re.search(r"\bFalse\b", text)]  # what has to hold
    tags = [c["metadata"].get("tags", []) for c in cells]
    ignored = ["nbval-ignore-output" in of for of in tags]
    assert sum(bool(c["outputs"]) and not of for c, of in zip(cells, ignored, strict=True)) >= 3
    assert sum(ignored) <= 1
    assert not any("nbval-skip" in of for of in tags)


@each_notebook
def test_a_notebooks_parameters_are_few_and_leave_the_profile_as_it_is(path, monkeypatch):
    cells = jupytext.read(path.with_suffix(".py")).cells
    (tagged,) = (c for c in cells if "parameters" in c["metadata"].get("tags", []))
    namespace = {}
    exec(tagged["source"], namespace)
    del namespace["__builtins__"]
    assert len(tagged["source"].splitlines()) <= 7
    own = {n: v for n, v in namespace.items() if n not in ("profile", "settings")}
    about = re.search(r'about="(\w+)"', path.with_suffix(".py").read_text())
    about = about[1] if about else "model"
    assert own and not any(own.values()) and all(full_name(name, about=about) for name in own)
    monkeypatch.chdir(ROOT / "notebooks")
    assert read_settings(namespace, about, show=False) == read_profile("full")


@each_notebook
def test_a_chapter_is_short_and_its_sentences_take_their_numbers_from_the_run(path):
    cells = jupytext.read(path.with_suffix(".py")).cells
    prose = "\n".join(c["source"] for c in cells if c["cell_type"] == "markdown")
    code = "\n".join(c["source"] for c in cells if c["cell_type"] == "code")
    assert len(prose.split()) <= 900 and len(re.findall(r"figures\.fig_", code)) <= 8
    told = set(quoted_of(json.loads(path.read_text())))
    asked = set(re.findall(r"{glue:text}`(\w+)`", prose))
    assert asked and asked == told


def test_a_chapter_with_an_unknown_parameter_is_refused():
    with pytest.raises(ValueError, match="unknown setting 'betta'; did you mean model.beta?"):
        chapter(NOTEBOOKS[0].stem, betta=3)


@pytest.mark.promise("rooms know nothing of one another")
def test_rooms_know_nothing_of_one_another_and_no_import_comes_back():
    graph = grimp.build_graph("brainvae_core", cache_dir=None)
    arrows = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    for room in ("cohorts", "models", "metrics", "fields", "figures"):
        inside = f"brainvae_core.{room}."
        seen = {found for m, of in arrows.items() if f"{m}.".startswith(inside) for found in of}
        outside = {found for found in seen if not f"{found}.".startswith(inside)}
        assert outside <= {"brainvae_core.disk"}, room
    graphlib.TopologicalSorter(arrows).prepare()  # refuses a circle


def test_the_projects_words_name_no_machine():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    for name in tracked.stdout.split():
        if not name.endswith((".png", ".svg", ".safetensors", ".gz")) and (ROOT / name).is_file():
            text = (ROOT / name).read_text()
            assert not re.search(r"(?<![\w.])/(home|root|Users)/[a-z]", text), name


def test_every_promise_is_in_the_table_with_its_tests_and_no_other():
    cells = {promise: of[0].replace("`", "").split("<br>") for promise, of in written().items()}
    assert cells == marked() and len(cells) > 20


def test_the_method_page_holds_the_recipes():
    page = (ROOT / "book/method.md").read_text()
    for name, paper in PAPER.items():
        fast = getattr(BetaVAEConfig(), name)
        assert re.search(rf"\| `{name}` \| {paper} \| .+ \| {fast} \| .+ \|", page), name


@pytest.mark.parametrize("folder", ["/my ccf", "my/ccf two", "/ccf"])
def test_make_takes_folders_with_blanks(folder):
    show = 'show: ; @printf \'%s|%s\' "$$BRAINVAE_DATA" "$$KEEP"'
    command = ["make", "-s", f"--eval={show}", "show", f"BRAINVAE_DATA={folder}", f"KEEP={folder}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown == f"{ROOT / folder}|{folder}"
    makefile = (ROOT / "Makefile").read_text()
    assert '"$$KEEP"' in makefile and "$(KEEP)" not in makefile
    for name in ("BRAINVAE_DATA", "KEEP"):  # from the environment too
        command = ["make", "-s", f"--eval={show}", "show"]
        given = os.environ | {"BRAINVAE_DATA": "/data", name: folder}
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=given).stdout
        assert folder in shown
