"""Figures of quality control: what they must show, and what an extreme brain may not do."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from brainvae_core import figures

H, W, N = 20, 28, 50
LIMIT = 6.0
NAMES = ["difference", "missing", "saturated", "gain"]


def z_scores(n=N, names=NAMES, seed=0):
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(n, len(names))), columns=names)


def words(figure):
    figure.draw_without_rendering()
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text()]


def bars(ax):
    return [p for p in ax.patches if p.get_width() > 0]


def marks(ax):
    return [line for line in ax.lines if line.get_marker() == "v"]


def with_extreme(value=1000.0):
    z = z_scores()
    z.loc[7, "missing"] = value
    return z, (z.abs() > LIMIT).any(axis=1).to_numpy()


# ---- distributions ----


def test_every_statistic_has_a_panel_with_the_limit():
    figure = figures.fig_quality(*with_extreme(), LIMIT)
    assert len(figure.axes) == 4 and figure.get_figwidth() <= 8
    text = words(figure)
    for word in ("Difference", "Missing", "Saturated", "Gain", "Brains", "Limit, 6 robust SD"):
        assert any(word in t for t in text), word
    for ax in figure.axes:
        assert LIMIT in [x for line in ax.lines for x in line.get_xdata()]


def test_every_brain_is_counted_once():
    z, is_outlier = with_extreme()
    for ax in figures.fig_quality(z, is_outlier, LIMIT).axes:
        assert sum(p.get_height() for p in bars(ax)) == N - 1
        assert [len(m.get_xdata()) for m in marks(ax)] == [1]


def test_an_outlier_is_marked_where_it_lies():
    z, is_outlier = with_extreme()
    for ax, name in zip(figures.fig_quality(z, is_outlier, LIMIT).axes, NAMES, strict=True):
        assert marks(ax)[0].get_xdata().tolist() == [z.loc[7, name]]


def test_an_extreme_brain_does_not_flatten_the_others():
    ax = figures.fig_quality(*with_extreme(1e5), LIMIT).axes[1]
    ax.figure.draw_without_rendering()
    shown = ax.transAxes.inverted().transform(
        ax.transData.transform([[x, 0] for x in (-1, 1, LIMIT, 1e5)])
    )[:, 0]
    assert shown[1] - shown[0] > 0.05 and shown[2] - shown[1] > 0.1 and shown[3] <= 1
    assert sum(p.get_height() > 0 for p in bars(ax)) >= 5


def test_no_bar_stands_on_both_sides_of_the_limit():
    z = z_scores()
    z.loc[3, "gain"], z.loc[4, "gain"] = -30, 12
    for ax in figures.fig_quality(z, (z.abs() > LIMIT).any(axis=1), LIMIT).axes:
        for bar in bars(ax):
            left, right = bar.get_x(), bar.get_x() + bar.get_width()
            assert not any(left + 1e-9 < at < right - 1e-9 for at in (LIMIT, -LIMIT) if left > -31)


def test_a_lower_limit_is_drawn_only_where_a_brain_is_below_it():
    z = z_scores()
    z.loc[3, "gain"] = -9
    figure = figures.fig_quality(z, z["gain"] < -LIMIT, LIMIT)
    below = [-LIMIT in [x for line in ax.lines for x in line.get_xdata()] for ax in figure.axes]
    assert below == [False, False, False, True]


@pytest.mark.parametrize("n", [1, 2, N])
def test_brains_that_are_all_alike_and_none_an_outlier(n):
    z = pd.DataFrame(np.zeros((n, 3)), columns=NAMES[:3])
    figure = figures.fig_quality(z, np.zeros(n, bool), LIMIT)
    assert "Outlier" not in words(figure)
    assert [ax.get_visible() for ax in figure.axes] == [True, True, True, False]
    assert all(sum(p.get_height() for p in bars(ax)) == n for ax in figure.axes[:3])


def test_nothing_but_outliers():
    z = pd.DataFrame({"gain": [-20.0, 40.0]})
    ax = figures.fig_quality(z, np.ones(2, bool), LIMIT).axes[0]
    assert marks(ax)[0].get_xdata().tolist() == [-20, 40]


# ---- the worst brains ----


def test_the_worst_are_named_with_their_reasons():
    images = np.random.default_rng(0).random((5, H, W)).astype(np.float32)
    reasons = ["difference, missing", "gain", "", None, ""]
    figure = figures.fig_worst(images, list("abcde"), reasons, 50.0)
    text = words(figure)
    assert set("abcde") <= set(text)
    assert "difference,\nmissing" in text and "gain" in text
    assert text.count("within the limit") == 3
    assert text.count("0.2 mm") == 1
    assert [bool(ax.images) for ax in figure.axes] == [True] * 5 + [False] * 3
    assert np.array_equal(figure.axes[4].images[0].get_array(), images[4])


def test_one_brain_is_enough():
    figure = figures.fig_worst(np.eye(H, W)[None], ["a"], ["missing"], 50.0)
    assert len(figure.axes) == 1


# ---- the ledger ----


def test_the_ledger_counts_every_reason():
    long = "the volume's member resampled_red.raw is damaged: its checksum differs from the archive"
    figure = figures.fig_ledger(1012, {long: 3, "no volume": 21})
    ax = figure.axes[0]
    assert [b.get_width() for b in bars(ax)] == [1012, 21, 3]
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels[:2] == ["Kept", "No volume"]
    assert labels[2].replace("\n", " ") == long[0].upper() + long[1:]
    assert max(map(len, labels[2].split("\n"))) <= 46
    assert {"1012", "21", "3"} <= set(words(figure))
    top, bottom = ax.transData.transform([[0, 0], [0, 2]])[:, 1]
    assert top > bottom


@pytest.mark.parametrize(("kept", "refused"), [(0, {}), (9, {}), (0, {"no volume": 2})])
def test_an_empty_ledger_is_drawn_too(kept, refused):
    figure = figures.fig_ledger(kept, refused)
    assert len(figure.axes[0].get_yticklabels()) == 1 + len(refused)
    words(figure)


# ---- brightness ----


def test_brightness_before_and_after_is_on_axes_from_zero():
    before = np.random.default_rng(0).uniform(2000, 9000, N)
    figure = figures.fig_brightness(before, np.full(N, 0.4))
    assert all(ax.get_xlim()[0] == 0 for ax in figure.axes)
    assert all(sum(p.get_height() for p in ax.patches) == N for ax in figure.axes)
    left, right = (ax.get_xlim()[1] for ax in figure.axes)
    assert left / before.mean() == pytest.approx(right / 0.4)
    text = words(figure)
    assert any(f"{100 * before.std() / before.mean():.1f} %" in t for t in text)
    assert any("variation 0.0 %" in t for t in text)


def test_the_mean_brightness_is_drawn_over_the_bars():
    before = np.random.default_rng(0).uniform(2000, 9000, N)
    for ax in figures.fig_brightness(before, np.full(N, 0.4)).axes:
        (mean,) = ax.lines
        assert mean.get_zorder() > max(p.get_zorder() for p in ax.patches)


# ---- the book's conventions ----

CALLS = {
    "fig_quality": lambda: figures.fig_quality(*with_extreme(), LIMIT),
    "fig_worst": lambda: figures.fig_worst(np.eye(H, W)[None], ["a"], ["gain"], 50.0),
    "fig_ledger": lambda: figures.fig_ledger(3, {"no volume": 1}),
    "fig_brightness": lambda: figures.fig_brightness(np.arange(1.0, 9.0), np.ones(8)),
}


@pytest.mark.parametrize("name", CALLS)
def test_lines_are_vectors_and_sections_a_raster(name, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    figure = CALLS[name]().made_from("Cohort <a>, 3 brains")
    assert isinstance(figure, Figure)
    assert figure.shown_as == ("png" if name == "fig_worst" else "svg")
    figure._ipython_display_()
    image, below = shown
    assert set(image) == {"image/png" if name == "fig_worst" else "image/svg+xml", "text/plain"}
    assert figure.caption in image["text/plain"]
    assert "Cohort &lt;a&gt;, 3 brains" in below["text/html"]
    assert "Cohort <a>, 3 brains" not in words(figure)


@pytest.mark.parametrize(
    "call",
    [
        lambda: figures.fig_quality(z_scores(), np.zeros(N - 1, bool), LIMIT),
        lambda: figures.fig_quality(z_scores() * np.nan, np.zeros(N, bool), LIMIT),
        lambda: figures.fig_worst(np.ones((3, H, W)), ["a", "b"], ["", ""], 50.0),
        lambda: figures.fig_worst(np.ones((2, H, W)), ["a", "b"], [""], 50.0),
        lambda: figures.fig_worst(np.ones((0, H, W)), [], [], 50.0),
        lambda: figures.fig_brightness(np.ones(4), np.ones(3)),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(call):
    with pytest.raises(ValueError) as error:
        call()
    assert "\n" not in str(error.value)
