"""Figures of both directions, of several fits and of planted factors: what they must show."""

from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from brainvae_core import figures
from brainvae_core.figures.palette import MODEL_COLOURS
from brainvae_core.figures.style import WIDTH

H, W, L, R, N = 20, 28, 3, 4, 5  # latents, regions, and brains or fits
ROIS = ["SSp", "HPF", "STR", "TH"]
FACTORS = ["brightness_HPF", "ap_position", "width", "illumination", "contrast"]
LONG = "a very long name of a fit that somebody made elsewhere and registered since"
BRAIN = np.zeros((H, W), bool)
BRAIN[3:17, 3:25] = True
rng = np.random.default_rng(0)


def fields(names, n=R, latents=L):
    return {name: rng.gamma(0.5, 2, (n, latents)) for name in names}


def against_blobs(n=R, names=None, n_blobs=7):
    total = rng.gamma(1, 1, n) + 0.1
    ends = np.stack([0.5 * total, 2 * total], axis=1)
    blobs = rng.lognormal(size=(n, n_blobs))
    return total, ends, blobs, names or [f"R{i}" for i in range(n)], "Effect (nats)"


def agreement(n=L):
    found = np.clip(rng.normal(0.3, 0.3, (n, n)), -1, 1)
    return found, np.diag(found)[:, None] + [-0.3, 0.1]


def fits(names=("VAE", "β-VAE"), n=2, latents=L):
    found = {name: rng.uniform(0.2, 1, (n, latents)) for name in names}
    return found, {name: rng.uniform(0.1, 0.7, (50, latents)) for name in names}


def recovery(latents=L):
    n = len(FACTORS)
    r2 = np.random.default_rng(1).uniform(0, 0.45, (latents, n))
    r2[0, 1] = 0.75
    return SimpleNamespace(
        r2=r2,
        latent=r2.argmax(axis=0),
        has_latent=r2.max(axis=0) >= 0.5,
        receptive_right=np.arange(n) % 2 == 0,
        projective_right=np.arange(n) > 1,
    )


def variances(n, scale=1.0):
    return (scale * rng.gamma(0.5, 1e-3, (n, H, W)) * BRAIN).astype(np.float32)


def tails(latents=L, kinds=None):
    codes = {k: rng.normal(size=(n, latents)) for k, n in (kinds or KINDS).items()}
    clean = next(iter(codes.values()))
    low, high = np.quantile(clean, [0.025, 0.975], axis=0)
    counts = {
        kind: np.stack([(z < low).sum(axis=0), (z > high).sum(axis=0)], axis=1)
        for kind, z in list(codes.items())[1:]
    }
    return codes, np.stack([low, high]), counts


KINDS = {"clean": 60, "leak": 7, "grid": 1}

# Usual and extreme arguments of each.
CALLS = {
    "fields": lambda: figures.fig_fields(fields(["left", "right", "both"]), ROIS, "Shift (SD)"),
    "fields of one latent and region": lambda: figures.fig_fields(
        {"a": np.zeros((1, 1))}, ["TH"], "Shift (SD)"
    ),
    "fields of 40 regions, long names": lambda: figures.fig_fields(
        fields([LONG, "right"], 40, 100), [f"region {i}" for i in range(40)], "Shift (SD)"
    ),
    "ten fields": lambda: figures.fig_fields(fields("abcdefghij", latents=8), ROIS, "Shift (SD)"),
    "blobs": lambda: figures.fig_against_blobs(*against_blobs(names=ROIS)),
    "blobs of one region, long name": lambda: figures.fig_against_blobs(
        *against_blobs(1, names=[LONG[:50]], n_blobs=1)
    ),
    "blobs of 40 regions": lambda: figures.fig_against_blobs(*against_blobs(40)),
    "blobs without any effect": lambda: figures.fig_against_blobs(
        np.zeros(2), np.zeros((2, 2)), np.zeros((2, N)), ["SSp", "TH"], "Effect (nats)"
    ),
    "agreement": lambda: figures.fig_agreement(*agreement()),
    "agreement of one latent": lambda: figures.fig_agreement(*agreement(1)),
    "agreement of 40 latents": lambda: figures.fig_agreement(*agreement(40)),
    "stability": lambda: figures.fig_stability(*fits()),
    "stability of one latent and pair": lambda: figures.fig_stability(*fits(["β-VAE"], 1, 1)),
    "stability of many fits": lambda: figures.fig_stability(
        *fits(["VAE", "β-VAE", "β-TCVAE", LONG], 9, 20)
    ),
    "planted": lambda: figures.fig_planted({"PCA": recovery(2), "β-VAE": recovery()}, FACTORS),
    "planted in one latent": lambda: figures.fig_planted({"β-VAE": recovery(1)}, FACTORS),
    "planted, four models": lambda: figures.fig_planted(
        {name: recovery(n) for name, n in zip("abcd", (8, 16, 30, 100), strict=True)}, FACTORS
    ),
    "maps": lambda: figures.fig_maps(
        {"planted": variances(5), "PCA": variances(5)}, FACTORS, 50.0, BRAIN
    ),
    "maps in two blocks with notes": lambda: figures.fig_maps(
        {"planted": variances(7), "PCA": variances(7)},
        [*FACTORS, "height", "brightness_TH"],
        50.0,
        BRAIN,
        notes={"PCA": [f"F{k + 1}, R² 0.5" for k in range(7)]},
    ),
    "one map of zeros": lambda: figures.fig_maps({"a": np.zeros((1, H, W))}, ["F1"], 50.0, BRAIN),
    "maps of 40 latents": lambda: figures.fig_maps(
        {"a": variances(40)}, [f"F{k + 1}" for k in range(40)], 50.0, BRAIN
    ),
    "tails": lambda: figures.fig_tails(*tails()),
    "tails of one latent": lambda: figures.fig_tails(*tails(1, {"clean": 9, "leak": 0})),
    "tails of 12 latents, 7 kinds": lambda: figures.fig_tails(
        *tails(12, {"clean": 600, "grid": 500} | dict.fromkeys("abcde", 3))
    ),
}

# What a reader must find in words on the usual ones.
WORDS = {
    "fields": [*ROIS, "F1", "F3", "Left", "Right", "Both", "Shift (SD)", "Latent", "Region"],
    "blobs": [*ROIS, "Effect (nats)", "7 blobs", "their median", "95 % interval"],
    "agreement": ["F1", "F3", "Rank correlation over regions", "Receptive field of", "others'"],
    "stability": ["VAE", "β-VAE", "1", "3", "random axes, 95 %", "a pair of fits", "|r| with"],
    "planted": ["PCA", "β-VAE", "Brightness HPF", "AP position", "F3", "R² of one latent", "0.75"]
    + ["best latent, R² ≥ 0.5", "its receptive field is right", "its projective field is right"],
    "maps": ["planted", "PCA", "Brightness\nHPF", "AP\nposition", "0.2 mm", "Standard deviation"],
    "maps in two blocks with notes": ["Height", "F7, R² 0.5", "0.2 mm"],
    "tails": ["clean", "leak", "grid", "F1", "F3", "Bars: 95 %", "prior standard deviations"],
    "tails of 12 latents, 7 kinds": ["F12", *"abcde"],
}  # fmt: skip


@pytest.fixture(scope="module")
def drawn():
    made = {name: call() for name, call in CALLS.items()}
    for figure in made.values():
        figure.draw_without_rendering()
    return made


def texts(figure):
    """Every text that is drawn: no label of a tick beyond its axis."""
    beyond = set()
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                beyond |= {tick.label1, tick.label2}
    hidden = {t for ax in figure.axes if not ax.get_visible() for t in ax.findobj(Text)}
    shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [t for t in shown if t not in beyond | hidden]


def words(figure):
    return [t.get_text() for t in texts(figure)]


def tick_labels(axis):
    return [t.get_text() for t in axis.get_ticklabels()]


def lines(ax, marker):
    """Coordinates of everything that is drawn with a marker."""
    return [line.get_xydata() for line in ax.lines if line.get_marker() == marker]


def refused(call):
    with pytest.raises(ValueError) as error:
        call()
    assert "\n" not in str(error.value)


# ---- what all of them do ----


@pytest.mark.parametrize("name", CALLS)
def test_is_as_wide_as_the_book_at_most_and_shown_in_one_format(drawn, name):
    figure = drawn[name]
    assert isinstance(figure, Figure) and figure.get_figwidth() <= WIDTH == 8
    assert figure.shown_as == ("png" if "map" in name else "svg")
    assert figure.get_figheight() < 17


@pytest.mark.parametrize("name", CALLS)
def test_no_word_is_cut_at_the_edge(drawn, name):
    edge = drawn[name].bbox.padded(1.0)
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts(drawn[name])]
    outside = [
        text for text, box in boxes if not (edge.contains(*box.min) and edge.contains(*box.max))
    ]
    assert not outside


@pytest.mark.parametrize("name", CALLS)
def test_labels_titles_and_legends_do_not_cover_one_another(drawn, name):
    figure = drawn[name]
    boxes = [(t, t.get_window_extent()) for t in texts(figure)]
    inside = {t for ax in figure.axes for t in ax.texts}  # numbers in cells, words on maps
    boxes = [
        (t.get_text(), box)
        for t, box in boxes
        if not (t in inside and t.axes.bbox.contains(*(box.min + box.max) / 2))
    ]
    covered = [
        (a, b)
        for i, (a, box) in enumerate(boxes)
        for b, other in boxes[:i]
        if min(box.x1, other.x1) - max(box.x0, other.x0) > 1
        and min(box.y1, other.y1) - max(box.y0, other.y0) > 2
    ]
    assert not covered


@pytest.mark.parametrize("name", WORDS)
def test_a_reader_finds(drawn, name):
    found = words(drawn[name])
    missing = [word for word in WORDS[name] if not any(word in text for text in found)]
    assert not missing, f"{missing} not in {found}"


@pytest.mark.parametrize("name", ["stability", "maps", "tails"])
def test_where_it_was_made_from_stands_below_it(name, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    figure = CALLS[name]().made_from("Cohort <a>, 3 brains")
    figure._ipython_display_()
    image, below = shown
    assert len({"image/png", "image/svg+xml"} & set(image)) == 1
    assert figure.caption and figure.caption in image["text/plain"]
    assert below["text/html"].index("Cohort &lt;a&gt;, 3 brains") > 0
    assert "Cohort <a>, 3 brains" not in words(figure)


# ---- several fields ----


def test_fields_hold_the_tables_on_one_scale():
    tables = fields(["a", "b"])
    tables["b"] *= 9
    figure = figures.fig_fields(tables, ROIS, "Shift (SD)")
    images = [ax.images[0] for ax in figure.axes[:2]]
    for image, table in zip(images, tables.values(), strict=True):
        assert np.array_equal(image.get_array(), table)
        assert image.get_clim() == (0, max(t.max() for t in tables.values()))
    assert tick_labels(figure.axes[0].yaxis) == ROIS
    assert tick_labels(figure.axes[0].xaxis) == ["F1", "F2", "F3"]


def test_every_field_has_its_panel(drawn):
    images = [ax for ax in drawn["ten fields"].axes if ax.images and ax.get_title(loc="left")]
    assert len(images) == 10
    assert [ax.get_title(loc="left")[-1] for ax in images] == list("abcdefghij")


def test_every_region_is_named_however_many(drawn):
    for name in ("fields of 40 regions, long names", "blobs of 40 regions"):
        assert len([t for t in tick_labels(drawn[name].axes[0].yaxis) if t]) == 40


def test_a_region_that_was_not_read_is_hatched():
    table = np.array([[0.5, np.nan, 2.0]])
    ax = figures.fig_fields({"a": table}, ["TH"], "Shift (SD)").axes[0]
    assert ax.images[0].get_clim() == (0, 2) and len(ax.patches) == 1


# ---- beside random blobs ----


def test_regions_stand_beside_their_own_blobs():
    totals, ends, blobs, names, label = against_blobs(names=ROIS)
    ax = figures.fig_against_blobs(totals, ends, blobs, names, label).axes[0]
    assert np.array_equal(np.concatenate(lines(ax, "D")), np.c_[totals, range(R)])
    assert all(np.array_equal(d[:, 0], b) for d, b in zip(lines(ax, "o"), blobs, strict=True))
    plain = [d for d in lines(ax, "None")]
    assert [d[0, 0] for d in plain[::2]] == np.median(blobs, axis=1).tolist()
    assert np.array_equal([d[:, 0] for d in plain[1::2]], ends)
    assert ax.get_xscale() == "log"
    above = [f"above {100 * np.mean(b < t):.0f} %" for b, t in zip(blobs, totals, strict=True)]
    assert [t.get_text() for t in ax.texts] == above
    assert tick_labels(ax.yaxis) == ROIS and ax.yaxis_inverted()


def test_an_effect_of_zero_has_no_logarithm(drawn):
    ax = drawn["blobs without any effect"].axes[0]
    assert ax.get_xscale() == "linear" and len(lines(ax, "D")) == 2


# ---- a latent's two fields ----


def test_agreement_is_drawn_of_each_with_each_and_with_itself():
    found, ends = agreement()
    matrix, ax = figures.fig_agreement(found, ends).axes[:2]
    assert np.array_equal(matrix.images[0].get_array(), found)
    assert matrix.images[0].get_clim() == (-1, 1)
    assert [p.get_xy() for p in matrix.patches] == [(k - 0.5, k - 0.5) for k in range(L)]
    assert np.array_equal(np.concatenate(lines(ax, "o")), np.c_[np.diag(found), range(L)])
    others = [d[:, 0].tolist() for d in lines(ax, "|")]
    assert others == [np.delete(found[k], k).tolist() for k in range(L)]
    assert np.array_equal([d[:, 0] for d in lines(ax, "None")[:L]], ends)
    assert tick_labels(ax.yaxis) == ["F1", "F2", "F3"]


def test_a_latent_that_was_left_out_keeps_its_number_and_is_hatched():
    found, ends = agreement()
    found[1], found[:, 1], ends[1] = np.nan, np.nan, np.nan
    figure = figures.fig_agreement(found, ends)
    figure.draw_without_rendering()
    matrix, ax = figure.axes[:2]
    assert len([p for p in matrix.patches if p.get_hatch()]) == 5
    assert "left out" in words(figure)
    assert tick_labels(ax.yaxis) == ["F1", "F2", "F3"]
    assert np.isfinite(np.concatenate(lines(ax, "o"))[[0, 2]]).all()


def test_every_latent_is_named_beside_its_agreement(drawn):
    named = tick_labels(drawn["agreement of 40 latents"].axes[1].yaxis)
    assert named == [f"F{k + 1}" for k in range(40)]


# ---- several fits ----


def test_latents_that_come_back_stand_beside_random_axes():
    found, chance = fits(n=2)
    for ax, name in zip(figures.fig_stability(found, chance).axes, found, strict=True):
        assert tick_labels(ax.xaxis) == [str(k + 1) for k in range(found[name].shape[1])]
        drawn = np.stack([line.get_ydata() for line in ax.lines])
        assert np.array_equal(drawn, np.sort(found[name], axis=1)[:, ::-1])
        assert {line.get_color() for line in ax.lines} == {MODEL_COLOURS[name]}
        ranked = np.sort(chance[name], axis=1)[:, ::-1]
        ends = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches]
        np.testing.assert_allclose(ends, np.quantile(ranked, [0.025, 0.975], axis=0).T)


def test_the_legend_shows_every_shape_of_a_pair():
    figure = figures.fig_stability(*fits(n=3))
    shown = {line.get_marker() for line in figure.legends[0].findobj(Line2D)} - {"None"}
    assert shown == {line.get_marker() for ax in figure.axes for line in ax.lines} == set("osD")


def test_every_fit_is_drawn(drawn):
    for ax in drawn["stability of many fits"].axes:
        assert len(ax.lines) == 9 and all(len(line.get_ydata()) == 20 for line in ax.lines)


def test_without_a_second_fit_there_is_nothing_to_compare():
    figure = figures.fig_stability({}, {}).made_from("a")
    figure.draw_without_rendering()
    assert "one fit of each model" in words(figure) and not figure.axes


def test_the_band_of_one_latent_is_seen(drawn):
    (bar,) = drawn["stability of one latent and pair"].axes[0].patches
    assert bar.get_width() > 0.5 and bar.get_height() > 0.3


# ---- what was planted ----


def test_boxes_stand_where_a_factor_has_a_latent_and_marks_where_fields_are_right():
    found = recovery()
    ax = figures.fig_planted({"β-VAE": found}, FACTORS).axes[0]
    assert np.array_equal(ax.images[0].get_array(), found.r2)
    assert ax.images[0].get_clim() == (0, 1)
    assert [p.get_xy() for p in ax.patches] == [(0.5, -0.5)]
    marks = {t.xy[0]: t.get_text() for t in ax.texts if hasattr(t, "xy")}
    assert marks == {0: "R", 1: "", 2: "RP", 3: "P", 4: "RP"}
    assert tick_labels(ax.yaxis) == ["F1", "F2", "F3"]
    labels = ["Brightness HPF", "AP position", "Width", "Illumination", "Contrast"]
    assert tick_labels(ax.xaxis) == labels


def test_no_number_below_a_half_is_written_as_a_half():
    found = recovery(2)
    found.r2[:, 0] = 0.497, 0.5
    found.r2[:, 1] = 0.4996, 0.494
    (ax, *_) = figures.fig_planted({"β-VAE": found}, FACTORS).axes
    numbers = [text.get_text() for text in ax.texts]
    assert {"0.497", "0.499", "0.50", "0.49"} <= set(numbers) and numbers.count("0.50") == 1


def test_models_with_other_numbers_of_latents_share_the_colours(drawn):
    panels = [ax for ax in drawn["planted, four models"].axes if ax.get_title(loc="left")]
    assert [ax.images[0].get_array().shape[0] for ax in panels] == [8, 16, 30, 100]
    assert {ax.images[0].get_clim() for ax in panels} == {(0, 1)}
    assert not [t for ax in panels for t in ax.texts if "." in t.get_text()]


# ---- maps ----


def shown_maps(figure):
    return [ax for ax in figure.axes if ax.images and ax.get_visible()]


@pytest.mark.parametrize("one_scale", [False, True])
def test_maps_are_standard_deviations_on_their_own_or_the_rows_scale(one_scale):
    maps = {"planted": variances(2), "PCA": variances(2, scale=2)}
    figure = figures.fig_maps(maps, ["width", "height"], 50.0, BRAIN, one_scale=one_scale)
    panels = np.reshape(shown_maps(figure)[:4], (2, 2))
    for row, of_row in enumerate(panels):
        tops = [ax.images[0].get_clim()[1] for ax in of_row]
        assert (tops[0] == tops[1]) == one_scale
        for ax, found in zip(of_row, maps.values(), strict=True):
            np.testing.assert_allclose(ax.images[0].get_array(), np.sqrt(found[row]), rtol=1e-6)
            if not one_scale:
                top = np.sqrt(np.quantile(found[row], 0.998))
                assert ax.images[0].get_clim() == (0, pytest.approx(top))
    assert any(("row" if one_scale else "map") in word for word in words(figure))


@pytest.mark.parametrize(("scale", "own"), [(2, False), (9, True), (100, True)])
def test_a_last_column_that_would_make_the_others_pale_has_its_own_scale(scale, own):
    maps = {"c < 0": variances(2), "c > 0": variances(2), "all c": variances(2, scale=scale)}
    figure = figures.fig_maps(maps, ["F1", "F2"], 50.0, BRAIN, one_scale=True)
    panels = np.reshape(shown_maps(figure)[:6], (2, 3))
    for row in panels:
        tops = [ax.images[0].get_clim()[1] for ax in row]
        assert tops[0] == tops[1] and (tops[2] > 2 * tops[1]) == own
    assert ("all c (own scale)" in words(figure)) == own


def test_notes_are_below_their_maps(drawn):
    figure = drawn["maps in two blocks with notes"]
    noted = [(ax, t) for ax in figure.axes for t in ax.texts if "R²" in t.get_text()]
    assert len(noted) == 7
    assert all(t.get_window_extent().y1 <= ax.bbox.y0 for ax, t in noted)


def test_notes_and_names_are_on_the_right_map_in_two_blocks():
    maps = {"planted": variances(7), "PCA": variances(7)}
    names = [*FACTORS, "height", "brightness_TH"]
    notes = {"PCA": [f"note {k}" for k in range(7)]}
    figure = figures.fig_maps(maps, names, 50.0, BRAIN, notes=notes)
    seen, of_row = {}, {}
    for ax in figure.axes:
        if not ax.get_visible() or not ax.images:
            continue
        image = ax.images[0].get_array()
        for title, found in maps.items():
            for row in range(7):
                if np.allclose(image, np.sqrt(found[row]), rtol=1e-6):
                    seen[title, row] = [t.get_text() for t in ax.texts if "mm" not in t.get_text()]
                    of_row[title, row] = ax.get_ylabel()
    assert len(seen) == 14
    assert all(seen["PCA", k] == [f"note {k}"] and not seen["planted", k] for k in range(7))
    labels = ["Brightness\nHPF", "AP\nposition", "Width", "Illumination", "Contrast", "Height"]
    assert [of_row["planted", k] for k in range(7)] == [*labels, "Brightness\nTH"]
    assert {of_row["PCA", k] for k in range(7)} == {""}
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["planted", "PCA"] * 2
    assert words(figure).count("0.2 mm") == 1


def test_a_map_of_zeros_is_white(drawn):
    (panel, *_) = shown_maps(drawn["one map of zeros"])
    assert panel.images[0].get_clim() == (0, 1) and not panel.images[0].get_array().any()


# ---- tails ----


def test_brains_limits_and_counts_are_where_they_belong():
    codes, limits, counts = tails()
    ax = figures.fig_tails(codes, limits, counts).axes[0]
    drawn = [(to_hex(line.get_color()), line.get_xdata()) for line in ax.lines]
    wanted = [z[:, k] for z in codes.values() for k in range(L)]
    assert all(np.array_equal(x, z) for (_, x), z in zip(drawn, wanted, strict=True))
    rows = [np.round(line.get_ydata()) for line in ax.lines]
    assert all((y == k % L).all() for k, y in enumerate(rows))
    colours = [colour for colour, _ in drawn]
    assert [len(set(colours[i : i + L])) for i in range(0, len(colours), L)] == [1] * 3
    assert len(set(colours)) == 3
    bars = [segment[:, 0] for c in ax.collections for segment in c.get_segments()]
    assert sorted(x[0] for x in bars) == sorted(limits.ravel())
    noted = [int(t.get_text()) for t in ax.texts]
    assert noted == [n for kind in counts.values() for pair in kind for n in pair]
    assert {t.get_color() for t in ax.texts} == {"black"}
    assert min(t.get_fontsize() for t in ax.texts) >= 7
    assert len({line.get_marker() for line in ax.lines}) == 3
    assert min(line.get_markersize() for line in ax.lines) >= 3
    sides = [t.get_ha() for t in ax.texts]
    assert sides == ["right", "left"] * (2 * L)


def test_every_kind_has_a_colour_of_its_own(drawn):
    ax = drawn["tails of 12 latents, 7 kinds"].axes[0]
    assert len({line.get_color() for line in ax.lines}) >= 6


# ---- what does not fit ----


@pytest.mark.parametrize(
    "call",
    [
        lambda: figures.fig_fields({"a": np.ones((L, R))}, ROIS, "Shift"),
        lambda: figures.fig_fields({"a": np.ones((R, L)), "b": np.ones(R)}, ROIS, "Shift"),
        lambda: figures.fig_against_blobs(
            np.ones(R), np.ones((R, 2)), np.ones((N, R)), ROIS, "Effect"
        ),
        lambda: figures.fig_against_blobs(
            np.ones(R), np.ones((2, R)), np.ones((R, N)), ROIS, "Effect"
        ),
        lambda: figures.fig_agreement(np.ones((L, R)), np.ones((L, 2))),
        lambda: figures.fig_agreement(np.ones((L, L)), np.ones((2, L))),
        lambda: figures.fig_stability({"a": np.ones((2, L))}, {"a": np.ones((9, L + 1))}),
        lambda: figures.fig_stability({"a": np.ones((2, L))}, {"b": np.ones((9, L))}),
        lambda: figures.fig_planted({"a": recovery()}, FACTORS[:-1]),
        lambda: figures.fig_maps({"a": variances(2)}, ["b"], 50.0, BRAIN),
        lambda: figures.fig_maps({"a": variances(2)}, ["b", "c"], 50.0, BRAIN.T),
        lambda: figures.fig_maps({"a": variances(2)}, list("bc"), 50.0, BRAIN, notes={"a": ["d"]}),
        lambda: figures.fig_tails({"a": np.ones((N, L))}, np.ones((L, 2)), {}),
        lambda: figures.fig_tails({"a": np.ones((N, L))}, np.ones((2, R)), {}),
        lambda: figures.fig_tails({"a": np.ones((N, 3))}, np.ones((2, 3)), {"a": np.ones((2, 3))}),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(call):
    refused(call)


def test_the_callers_settings_do_not_matter():
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        ax = CALLS["agreement"]().axes[1]
    assert to_hex(ax.get_facecolor()) == "#ffffff" and ax.xaxis.label.get_fontsize() == 9
