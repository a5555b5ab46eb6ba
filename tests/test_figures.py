"""Figures: what every one of them must do, and what data must stand where in some."""

import base64
import html
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.text import Text

from brainvae_core import figures
from brainvae_core.figures.style import DPI, WIDTH

H, W, L, N = 40, 56, 3, 5
ROIS = ["SSp", "HPF", "STR", "TH"]
MODELS = ["PCA", "VAE", "β-VAE"]
KINDS = ["leak", "grid"]
FACTORS = ["brightness_HPF", "ap_position", "width", "illumination", "contrast"]
DIMS = [2, 4, 8, 16]
MARKS = {"chosen": (10, 8), "the paper's": (3, 32)}
BRAIN = np.zeros((H, W), bool)
BRAIN[3:37, 3:53] = True
rng = np.random.default_rng(0)


def grey(*lead):
    return rng.random((*lead, H, W)).astype(np.float32)


def masks(n=4):
    found = np.zeros((n, H, W), bool)
    for i in range(n):
        found[i, 2 + 8 * i : 8 + 8 * i, 6:24] = True
    return found


def per_model(make, names=MODELS):
    return {label: make() for label in names}


def estimate(value=None, half=0.1):
    value = rng.random() + 1 if value is None else value
    return SimpleNamespace(value=value, low=value - half, high=value + 2 * half)


def rows(found, *names):
    """Nested estimates as a table, a level of nesting a column; a plain number has no interval."""
    flat = [((), found)]
    for _ in names:
        flat = [((*key, k), v) for key, of in flat for k, v in of.items()]
    ends = [vars(v) if isinstance(v, SimpleNamespace) else {"value": v} for _, v in flat]
    labels = [dict(zip(names, key, strict=True)) for key, _ in flat]
    return pd.DataFrame([a | b for a, b in zip(labels, ends, strict=True)])


def curve(dims=DIMS):
    return {d: estimate() for d in dims}


def history(grown=False, kl=None):
    rows = []
    for i, step in enumerate((100, 200, 300, 400)):
        big = grown and step > 200
        row = {"step": step, "validation_loss": (-9e3 if big else 0) + 1e4 / step, "height": 80}
        row |= {"validation_kl": kl[i] if kl else step / 100, "active_latents": 2}
        row |= {"explained_variance": 1 - 50 / step, "progress": min(step / 300, 1)}
        rows.append(row | {"height": 160 if big else 80})
    return rows


def failed(*shape):
    values = rng.random(shape)
    values[1, 2] = np.nan
    return values


def recovery(latents=L):
    n = len(FACTORS)
    r2 = np.random.default_rng(1).uniform(0, 0.45, (latents, n))
    r2[0, 1] = 0.75
    found = {"r2": r2, "latent": r2.argmax(axis=0), "has_latent": r2.max(axis=0) >= 0.5}
    right = {"receptive_right": np.arange(n) % 2 == 0, "projective_right": np.arange(n) > 1}
    return SimpleNamespace(**found, **right)


def z_scores(extreme=1000.0, n=50):
    z = pd.DataFrame(np.random.default_rng(0).normal(size=(n, 4)))
    z.columns = ["difference", "missing", "saturated", "gain"]
    z.loc[7, "missing"] = extreme
    return z, (z.abs() > 6).any(axis=1).to_numpy(), 6.0


def blobs(n=4):
    total = rng.gamma(1, 1, n) + 0.1
    names = ROIS if n == 4 else [f"R{i}" for i in range(n)]
    return total, np.stack([0.5 * total, 2 * total], 1), rng.lognormal(size=(n, 7)), names, "Effect"


def scored(names=MODELS, panels=("six", "all")):
    """Scores of models over sets of regions, and draws of both chances."""
    table = rows({over: {k: estimate(0.6) for k in names} for over in panels}, "over", "model")
    of = [(over, k, kind) for over in panels for k in names for kind in ("permuted", "rotated")]
    chance = pd.DataFrame(of * 30, columns=["over", "model", "kind"])
    return table, chance.assign(value=rng.random(len(chance)))


def fits(names=("VAE", "β-VAE"), n=2, latents=L):
    found = {name: rng.uniform(0.2, 1, (n, latents)) for name in names}
    return found, {name: rng.uniform(0.1, 0.7, (50, latents)) for name in names}


def variances(n, scale=1.0):
    return (scale * rng.gamma(0.5, 1e-3, (n, H, W)) * BRAIN).astype(np.float32)


def point(values):
    """A row a fit, of values (n_betas, n_dims, n_seeds)."""
    index = [[1, 3, 10], DIMS, range(values.shape[2])]
    return pd.Series(values.ravel(), pd.MultiIndex.from_product(index, names=GRID))


def knee(n_seeds=3):
    curves = {"PCA": rng.random((4, 1)), "β-VAE": failed(4, n_seeds)}
    tables = [pd.DataFrame(v, DIMS).stack().rename("value").reset_index() for v in curves.values()]
    tables = [of.set_axis(["latent_dim", "seed", "value"], axis=1) for of in tables]
    shares = {"PCA": np.full(4, np.nan), "β-VAE": np.array([0, 0.75, 0.25, 0])}
    at = {"PCA": np.nan, "β-VAE": 4.0}
    knees = {k: SimpleNamespace(points=DIMS, at=at[k], shares=shares[k]) for k in at}
    return pd.concat([of.assign(model=k) for k, of in zip(curves, tables, strict=True)]), knees


KIND_MODEL_L = ("kind", "model", "latent_dim")
GRID = ("beta", "latent_dim", "seed")
LAYERS = [("image", (1, H, W)), ("conv 1", (32, 10, 14)), ("fc", (256,)), ("code", (L,))]
ROW = [rng.normal(size=L) for _ in range(2)]
LONG = "a very long name of a fit that somebody made elsewhere and registered since"

# Arguments of every function, and which of them must be found, as they are, in what is drawn.
CALLS = {
    "fig_1": ((grey(), grey(), *ROW, np.array([0, 9.0, 0]), grey(), grey(), masks()[1], "HPF",
               LAYERS, 50.0), {}, [0, 1, 2, 3, 4, 5, 6]),
    "fig_2a": ((grey(), grey(), masks(), ROIS, 50.0, "five drawn brains"), {}, [0, 1]),
    "fig_2b": ((grey(2), grey(2), per_model(lambda: grey(2)), KINDS, 50.0, masks(2)), {},
               [0, 1, 2]),
    "fig_s1": ((grey(3), grey(3), per_model(lambda: grey(3)), list("abc"), 50.0, masks(3)), {},
               [0, 1, 2]),
    "fig_2c": ((rows({"PCA": curve(), "VAE": curve([2, 16])}, "model", "latent_dim"),
                rows({"mean image": 0.89}, "model"), "CW-SSIM"), {}, [0, 1]),
    "fig_2d": ((rows({k: per_model(curve) for k in ("Reconstructions", "Samples")}, *KIND_MODEL_L),
                rows({"Samples": {"real": estimate()}}, "kind", "model")), {}, [0]),
    "fig_curves": ((rows({"Kept": {"PCA": curve([0.2, 0.5, 1]), "median": curve([0.2, 1])},
                          "Found": {"PCA": curve([0.2])}}, "score", "model", "s"), "s", "Strength"),
                   {"references": rows({"Kept": {"copy": 1.0}}, "score", "model"),
                    "ylabels": ["Share", "Rate"]}, [0]),
    "fig_curves, many": ((rows({k: curve([0.25, 0.5, 1]) for k in [*MODELS, "median"]}, "model",
                               "s"), "s", "Strength"), {}, [0]),
    "fig_differences": ((rows({"β-VAE − VAE": {"leak": estimate(0.3), "grid": estimate(0.02)},
                               "β-VAE − PCA": {"leak": estimate(-0.5)}}, "model", "kind"), "x"),
                        {}, [0]),
    "fig_differences, long": ((rows({LONG * 2: per_model(estimate, [LONG, "b"])}, "model", "kind"),
                               LONG), {}, [0]),
    "fig_scores": ((rows({"CW-SSIM": per_model(estimate), "PCA-FD": {"PCA": estimate()}},
                         "score", "model"),),
                   {"references": rows({"PCA-FD": {"real": 0.5}}, "score", "model"), "columns": 2},
                   [0]),
    "fig_error_maps": ((grey(2), {"VAE": grey(2), "PCA": grey(2)}, KINDS, 50.0, masks(2), "Error"),
                       {}, [0, 1]),
    "fig_grids": (({name: pd.DataFrame(values, [1, 3, 10], DIMS) for name, values in (
                        ("Rate", failed(3, 4)), ("Active", 2), ("FD", 1.0))}, MARKS), {}, [0]),
    "fig_grids, full": (({"R": pd.DataFrame(rng.random((20, 17)), range(1, 21), range(4, 21))},
                         MARKS), {}, [0]),
    "fig_knee": (knee(), {"ylabel": "Held-out loss"}, [0]),
    "fig_rate_distortion": ((pd.DataFrame({"rate": point(10 + failed(3, 4, 2)),
                                           "distortion": point(failed(3, 4, 2))}), MARKS), {}, [0]),
    "fig_3a": ((rng.random((L, H, W, 3)), np.array([1e-3, 2e-3, 3e-3]),
                np.array([False, True, False]), 50.0, BRAIN), {}, [0]),
    "fig_3b": ((rng.random((4, L)), ROIS, np.array([1.5, 22.25, 3, 4])), {}, [0]),
    "fig_3c": ((rng.normal(size=(6, N, 2)), (1, 5), np.linspace(0.5, 2, 6), "HPF"), {}, []),
    "fig_3d": (({k: np.corrcoef(rng.random((L, 9))) for k in ("six", "all")},), {}, []),
    "fig_3e": (scored(), {}, [0]),
    "fig_s2": ((grey(4, 2), ROIS, np.array([[0.5, 1.5]] * 4), 50.0), {}, [0]),
    "fig_s3": ((rng.normal(size=(4, 2, N, L)), ROIS, np.array([[0.5, 1.5]] * 4)), {}, []),
    "fig_s4": ((grey(L, 3), [-7, 0, 7], 50.0), {}, []),
    "fig_region_profile": ((rng.random((L, 4)), ROIS, rng.random((4, L))), {}, []),
    "fig_sections": ((grey(N), list("abcde"), 50.0), {}, [0]),
    "fig_sections, with words": ((grey(N), list("abcde"), 50.0),
                                 {"words": ["leak 0.97", "", "", "none", ""], "columns": 6,
                                  "masks": np.stack([BRAIN & (np.arange(W) < 4)] * N)}, [0]),
    "fig_factors": (({"brightness_HPF": (grey(), grey()), "ap_position": (grey(), grey())}, grey(),
                     50.0, ("low", "high")), {}, [0]),
    "fig_training": (({"VAE": history(), "β-VAE": history()}, {"PCA": 0.9}), {}, []),
    "fig_training, grown": (({"VAE": history(True), "β-VAE": history(True)}, {"PCA": 0.9}), {}, []),
    "fig_recovery": ((np.array([[0.5, -0.25], [1, 0], [0.25, 0.75]]), MODELS, FACTORS[:2]), {},
                     [0]),
    "fig_reconstructions": ((grey(2), per_model(lambda: grey(2)), 50.0, ["brain 1", "brain 2"]), {},
                            [0, 1]),
    "fig_deviations": ((pd.DataFrame(rng.normal(size=(9, 4)), columns=ROIS),), {}, []),
    "fig_group_maps": ((grey(), {k: rng.normal(size=(H, W)) for k in ("KO − WT", "decoded")},
                        np.where(np.arange(W) < 5, 0.01, 1.0) * np.ones((H, 1)), "WT", 50.0),
                       {}, [0, 1]),
    "fig_power": ((pd.DataFrame({"region": np.repeat(ROIS, 3), "n_per_group": [4, 12, 96] * 4,
                                 "value": rng.uniform(1, 20, 12)}), 12), {}, []),
    "fig_quality": (z_scores(), {}, []),
    "fig_fields": (({k: rng.gamma(0.5, 2, (4, L)) for k in KINDS}, ROIS, "Shift (SD)"), {}, [0]),
    "fig_fields, many": (({LONG: rng.gamma(0.5, 2, (40, 100)), "b": rng.random((40, 8))},
                          [f"region {i}" for i in range(40)], "Shift (SD)"), {}, [0]),
    "fig_against_blobs": (blobs(), {}, [0, 1, 2]),
    "fig_agreement": ((rng.uniform(-1, 1, (L, L)),), {}, [0]),
    "fig_stability": (fits(), {}, [0]),
    "fig_stability, many": (fits(["VAE", "β-VAE", "β-TCVAE", LONG], 7, 20), {}, [0]),
    "fig_planted": (({"PCA": recovery(2), "β-VAE": recovery()}, FACTORS), {}, []),
    "fig_maps": (({"planted": variances(7), "PCA": variances(7)},
                  [*FACTORS, "height", "brightness_TH"], 50.0, BRAIN),
                 {"notes": {"PCA": [f"F{k + 1}, R² 0.5" for k in range(7)]}}, []),
    "fig_maps, many": (({"a": variances(40)}, [f"F{k + 1}" for k in range(40)], 50.0, BRAIN), {},
                       []),
}  # fmt: skip
ONE = rows({"PCA": estimate()}, "model")
SECTIONS = "1 2a 2b s1 3a s2 s4 sections factors reconstructions error_maps maps group_maps"
SECTIONS = [f"fig_{name}" for name in SECTIONS.split()]
every = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (", many" in n)) for n in CALLS]
)


def call(name, **changes):
    args, kwargs, _ = CALLS[name]
    return getattr(figures, name.split(",")[0])(*args, **kwargs | changes)


class Drawn(dict):
    """Every figure by name, drawn once, when it is first asked for."""

    def __missing__(self, name):
        self[name] = call(name)
        self[name].draw_without_rendering()
        return self[name]


@pytest.fixture(scope="module")
def drawn():
    return Drawn()


def panels(figure):
    return figure.findobj(lambda a: isinstance(a, matplotlib.axes.Axes))


def texts(figure):
    """Every text that is drawn: no label of a tick beyond its axis, nothing of a hidden panel."""
    gone = set()
    for ax in panels(figure):
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high:
                    gone |= {tick.label1, tick.label2}
        if not ax.get_visible():
            gone |= set(ax.findobj(Text))
    shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [t for t in shown if t not in gone]


def ticks(axis):
    return [t.get_text() for t in axis.get_ticklabels()]


def with_marker(ax, marker):
    return [line.get_xydata() for line in ax.lines if line.get_marker() == marker]


def table_of(ax):
    """The values of a heat map."""
    (mesh,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    return np.ma.filled(mesh.get_array(), np.nan).reshape(mesh._coordinates.shape[0] - 1, -1)


def numbers(given):
    """Every number of an argument: of arrays, estimates and what holds them."""
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, pd.DataFrame):
        kept = [name for name in ("value", "low", "high") if name in given]
        given = given[kept or list(given)].to_numpy()
    if isinstance(given, list | tuple):
        return np.concatenate([np.empty(0), *map(numbers, given)])
    return np.asarray(given, float).ravel()


def data_in(figure):
    """Every number that an artist was given."""
    found = []
    for ax in panels(figure):
        found += [np.ma.filled(np.ma.asarray(i.get_array(), float), np.nan) for i in ax.images]
        found += [line.get_xydata() for line in ax.lines]
        found += [(p.get_height(), p.get_width()) for p in ax.patches if hasattr(p, "get_height")]
        for c in ax.collections:
            if isinstance(c, QuadMesh):
                found.append(np.ma.filled(np.ma.asarray(c.get_array(), float), np.nan))
            elif isinstance(c, PathCollection):
                found.append(c.get_offsets())
            elif not isinstance(c, matplotlib.contour.ContourSet):
                found += [path.vertices for path in c.get_paths()]
    return np.unique(np.concatenate([np.ravel(f).astype(float) for f in found]))


# ---- what every figure does ----


def test_every_function_is_tried():
    assert {name.split(",")[0] for name in CALLS} == set(figures.__all__)


@every
def test_a_figure_is_captioned_fits_the_book_and_belongs_to_no_pyplot_state(drawn, name):
    from matplotlib import pyplot

    figure = drawn[name]
    _, said, _ = getattr(figures, name.split(",")[0]).__doc__.split("\n\n", 2)
    assert figure.caption == " ".join(said.split())
    assert figure.get_figwidth() <= WIDTH and figure.get_figheight() < 17
    mostly_images = name.split(",")[0] in set(SECTIONS) - {"fig_1"}
    assert figure.shown_as == ("png" if mostly_images else "svg")
    assert pyplot.get_fignums() == []


@every
def test_what_was_given_is_what_is_drawn(drawn, name):
    args, _, positions = CALLS[name]
    shown = data_in(drawn[name])
    for position in positions:
        given = numbers(args[position])
        given = given[np.isfinite(given)]
        at = np.clip(np.searchsorted(shown, given), 1, len(shown) - 1)
        apart = np.minimum(abs(shown[at] - given), abs(shown[at - 1] - given))
        assert apart.max() < 1e-6


@every
def test_no_word_is_cut_at_the_edge(drawn, name):
    edge = drawn[name].bbox.padded(1.0)
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts(drawn[name])]
    cut = [text for text, b in boxes if not (edge.contains(*b.min) and edge.contains(*b.max))]
    assert not cut


@pytest.mark.parametrize("name", SECTIONS)
def test_sections_have_one_scale_bar_below_them_of_the_length_it_says(drawn, name):
    (ax,) = [ax for ax in panels(drawn[name]) if any("mm" in t.get_text() for t in ax.texts)]
    (text,) = [t for t in ax.texts if "mm" in t.get_text()]
    (bar,) = [line for line in ax.lines if line.get_linewidth() == 2]
    left, right = bar.get_xdata()
    assert (right - left) * 50 == pytest.approx(1000 * float(text.get_text().split()[0]))
    assert max(text.get_window_extent().y1, bar.get_window_extent().y1) < ax.bbox.y0


@pytest.mark.parametrize("name", ["fig_s4", "fig_factors", "fig_1", "fig_group_maps"])
def test_differences_are_centred_at_zero(drawn, name):
    images = [i for ax in panels(drawn[name]) for i in ax.images]
    shown = [i for i in images if i.get_cmap().name == "RdBu_r"]
    assert shown and all(i.norm.vmin == -i.norm.vmax for i in shown)


@pytest.mark.parametrize("name", ["fig_recovery", "fig_sections"])
def test_a_notebook_receives_one_image_its_caption_and_what_it_was_made_from(name, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    figure = call(name).shows("Two sections.").made_from("Cohort <a>, 3 brains")
    figure._ipython_display_()
    image, below = shown
    kind = "image/png" if name == "fig_sections" else "image/svg+xml"
    assert set(image) == {kind, "text/plain"} and set(below) == {"text/html"}
    assert figure.caption.startswith("Two sections. ")
    assert image["text/plain"] == f"Figure. {figure.caption}"
    assert html.unescape(below["text/html"]).count(figure.caption) == 1
    assert "Cohort &lt;a&gt;, 3 brains" in below["text/html"]
    if name == "fig_sections":
        png = base64.b64decode(image[kind])
        assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20]) == WIDTH * DPI


@pytest.mark.parametrize("name", ["fig_3d", "fig_agreement", "fig_2c"])
def test_style_does_not_depend_on_the_caller(drawn, name):
    with matplotlib.rc_context({"font.size": 30, "xtick.labelsize": 30, "axes.facecolor": "red"}):
        figure = call(name)
        figure.draw_without_rendering()
        assert matplotlib.rcParams["font.size"] == 30
    for one, other in zip(figure.axes, drawn[name].axes, strict=True):
        assert one.get_facecolor() == other.get_facecolor()
        sizes = [{t.get_fontsize() for t in ax.get_xticklabels()} for ax in (one, other)]
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda f: f.fig_sections(grey(3), ["a", "b"], 50.0),
        lambda f: f.fig_sections(grey(0), [], 50.0),
        lambda f: f.fig_3d({"six": np.ones((2, 3))}),
        lambda f: f.fig_grids({"R": pd.DataFrame({2: [1]}), "D": pd.DataFrame({4: [1]})}, {}),
        lambda f: f.fig_knee(knee()[0], {"PCA": 4}, ylabel=""),
        lambda f: f.fig_3e(scored()[0], scored(MODELS[:1])[1]),
        lambda f: f.fig_3e(scored()[0], scored()[1].query("kind == 'permuted'")),
        lambda f: f.fig_scores(ONE[:0]),
        lambda f: f.fig_curves(ONE.assign(x=1), "x", "x", ylabels=["a", "b"]),
        lambda f: f.fig_quality(z_scores()[0] * np.nan, np.zeros(50, bool), 6.0),
        lambda f: f.fig_recovery(np.ones((2, 3)), ["a"], list("abc")),
        lambda f: f.fig_against_blobs(np.ones(4), np.ones((4, 2)), np.ones((N, 4)), ROIS, "Effect"),
        lambda f: f.fig_stability({"a": np.ones((2, L))}, {"a": np.ones((9, L + 1))}),
        lambda f: f.fig_planted({"a": recovery()}, FACTORS[:-1]),
        lambda f: f.fig_maps({"a": variances(2)}, list("bc"), 50.0, BRAIN, notes={"a": ["d"]}),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(wrong):
    with pytest.raises(ValueError) as error:
        wrong(figures)
    assert "\n" not in str(error.value)
