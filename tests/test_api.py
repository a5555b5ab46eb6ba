"""The API pages: every public name is on its room's page, and the page's example runs."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

BOOK = Path(__file__).parent.parent / "book"
ROOMS = ("cohorts", "models", "metrics", "fields", "figures")
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
each_room = pytest.mark.parametrize("room", ROOMS)


def page_of(room):
    return (BOOK / f"api/{room}.md").read_text()


def blocks(page, fence):
    return re.findall(rf"^```{re.escape(fence)}\n(.*?)^```$", page, re.M | re.S)


def documented(page):
    """Names whose reference a page holds."""
    directives = r"^\.\. (?:autofunction|autoclass|autoexception|py:data):: (\w+)$"
    return [n for block in blocks(page, "{eval-rst}") for n in re.findall(directives, block, re.M)]


def public(room):
    module = importlib.import_module(f"brainvae_core.{room}")
    return {name: getattr(module, name) for name in module.__all__}


@each_room
def test_a_page_of_the_book_holds_every_public_name_once(room):
    assert sorted(documented(page_of(room))) == sorted(public(room))
    assert f"file: book/api/{room}\n" in (BOOK.parent / "_toc.yml").read_text()


@each_room
def test_the_example_of_a_page_prints_what_it_shows(room):
    (example,) = blocks(page_of(room), "pycon")
    test = doctest.DocTestParser().get_doctest(example, {}, room, f"{room}.md", 0)
    failures = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=failures.append)
    assert not failures, "".join(failures)


@each_room
def test_functions_of_several_arguments_say_what_each_is(room):
    for name, function in public(room).items():
        arguments = inspect.signature(function).parameters if inspect.isroutine(function) else ()
        told = inspect.getdoc(function).partition("Parameters\n---")[2]
        for argument in arguments if len(arguments) > 2 else ():
            assert re.search(rf"^(?:[\w*]+, )*\**{argument}\b", told, re.M), (name, argument)


@pytest.mark.book
@each_room
def test_the_rendered_page_has_every_name_and_its_source(room, html):
    html = (html / f"book/api/{room}.html").read_text()
    for name, value in public(room).items():
        assert f'id="brainvae_core.{room}.{name}"' in html, name
        if inspect.isclass(value) or callable(value):
            link = rf'href="../../_modules/brainvae_core/[\w/]+\.html#{name}"'
            assert re.search(link, html), name


@pytest.mark.slow
def test_the_programs_of_the_page_on_running_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = "".join(blocks((BOOK / "running.md").read_text(), "python"))
    for asked, small in (("n_brains=256", "n_brains=120"), ("n_blobs=100", "n_blobs=4")):
        assert asked in program
        program = program.replace(asked, small)
    exec(re.sub(r"\bsteps=\d+", "steps=2", program), {})
