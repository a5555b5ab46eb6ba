"""Captions: every figure says in words what it shows, below it and to those who do not see it."""

import html
import re

import numpy as np
import pytest

from brainvae_core import figures
from brainvae_core.figures.style import BookFigure

FUNCTIONS = [name for name in figures.__all__ if name.startswith("fig_")]
PAPER = [name for name in FUNCTIONS if re.fullmatch(r"fig_s?\d[a-e]?", name)]
MARKUP = re.compile(r"`|\*|:\w+:|\|\w+\||\w_\b|::|-{3,}|={3,}|\.\. ")


def summary(name: str) -> str:
    """What stands in a docstring before its parameters, as it is written."""
    told, parameters = getattr(figures, name).__doc__.split("\n\n    Parameters\n    ---", 1)
    assert parameters
    return told


def caption_of(name: str) -> str:
    return " ".join(summary(name).split())


@pytest.fixture(scope="module")
def drawn() -> dict[str, BookFigure]:
    """One figure shown as a vector graphic and one shown as a raster."""
    rng = np.random.default_rng(0)
    return {
        "fig_ledger": figures.fig_ledger(3, {"no section": 1}),
        "fig_sections": figures.fig_sections(rng.random((2, 10, 14)), ["a", "b"], pixel_um=50.0),
    }


def as_shown(figure, monkeypatch) -> list[dict]:
    """What a notebook receives of a figure."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    figure._ipython_display_()
    return shown


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_first_line_is_one_sentence_and_explanations_follow(name):
    first, *rest = summary(name).split("\n\n")
    assert "\n" not in first.strip() and len(first) <= 100 and first.endswith(".")
    assert len(rest) == 1 and rest[0].strip()[0].isupper() and rest[0].endswith(".")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_caption_is_long_enough_to_stand_alone_and_short_enough_to_be_read(name):
    assert 120 <= len(caption_of(name)) <= 700


@pytest.mark.parametrize("name", FUNCTIONS)
def test_captions_are_words_without_markup(name):
    caption = caption_of(name)
    assert not MARKUP.search(caption)
    depth = 0
    for character in caption:
        depth += (character == "(") - (character == ")")
        assert 0 <= depth <= 1, caption


@pytest.mark.parametrize("name", PAPER)
def test_a_figure_of_the_paper_names_it(name):
    assert f"(Fig. {name.removeprefix('fig_').upper()})" in summary(name).split("\n\n")[0]


def test_no_two_figures_have_the_same_caption():
    assert len({caption_of(name) for name in FUNCTIONS}) == len(FUNCTIONS)


@pytest.mark.parametrize("name", ["fig_ledger", "fig_sections"])
def test_a_figure_has_the_summary_of_its_function_as_its_caption(drawn, name):
    assert drawn[name].caption == caption_of(name)


@pytest.mark.parametrize("name", ["fig_ledger", "fig_sections"])
def test_who_does_not_see_the_figure_is_told_the_same_as_who_does(drawn, name, monkeypatch):
    shown = as_shown(drawn[name], monkeypatch)
    (image,) = [data for data in shown if {"image/svg+xml", "image/png"} & set(data)]
    assert caption_of(name) in image["text/plain"]
    below = html.unescape("".join(data.get("text/html", "") for data in shown))
    assert caption_of(name) in below


def test_what_a_figure_was_made_from_follows_its_caption(monkeypatch):
    figure = figures.fig_ledger(3, {}).made_from("Cohort <drawn>, 3 brains")
    below = "".join(data.get("text/html", "") for data in as_shown(figure, monkeypatch))
    assert "&lt;drawn&gt;" in below
    words = html.unescape(re.sub(r"<[^>]*>", "", below))
    assert words == f"{caption_of('fig_ledger')} Cohort <drawn>, 3 brains"
