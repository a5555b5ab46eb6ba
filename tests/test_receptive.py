"""Receptive fields of toy models whose answers are known."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy import ndimage

import brainvae_core.fields
from brainvae_core.fields import (
    bootstrap_uncorrelatedness,
    cross_agreement,
    impact_covariance,
    most_moved,
    normalised_impacts,
    null_divergence,
    perturb,
    random_blobs,
    receptive_field,
    region_brightness,
    tail_asymmetry,
    uncorrelatedness,
    uncorrelatedness_null,
    weight_range,
)
from brainvae_core.fields.regions import swap_donors

N, HEIGHT, WIDTH = 23, 14, 18
BANDS = ((1, 4), (5, 9), (10, 13))  # rows of three disjoint regions of unequal size


class Linear:
    """codes = (x − centre) · loadings, one column a latent; no posterior."""

    def __init__(self, loadings, centre=0.0):
        self.loadings, self.centre = loadings, centre

    def encode(self, images):
        return ((images - self.centre).reshape(len(images), -1) @ self.loadings).astype(np.float32)


class WithPosterior(Linear):
    def __init__(self, loadings, std):
        super().__init__(loadings)
        self.std = np.asarray(std, dtype=np.float32)

    def posterior(self, images):
        mean = self.encode(images)
        return mean, np.broadcast_to(self.std, mean.shape)


class Answers:
    def __init__(self, answer):
        self.encode = answer


class AnswersBoth(Answers):
    """The answer is a posterior."""

    def __init__(self, answer):
        super().__init__(lambda images: answer(images)[0])
        self.posterior = answer


class Pixels:
    """The code is the image itself, so that a field keeps what was encoded."""

    def encode(self, images):
        assert images.dtype == np.float32
        return images.reshape(len(images), -1)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    level = rng.uniform(0.3, 0.7, (N, len(BANDS)))
    images = rng.uniform(0.0, 0.1, (N, HEIGHT, WIDTH))
    for r, (top, bottom) in enumerate(BANDS):
        images[:, top:bottom] += level[:, r, None, None]
    return images.astype(np.float32)


@pytest.fixture(scope="module")
def rois():
    masks = np.zeros((len(BANDS), HEIGHT, WIDTH), dtype=bool)
    for mask, (top, bottom) in zip(masks, BANDS, strict=True):
        mask[top:bottom, 2:15] = True
    return masks


@pytest.fixture(scope="module")
def whitened(images):
    """PCA with five components, codes of unit variance over these very brains."""
    flat = images.reshape(N, -1).astype(np.float64)
    centre = flat.mean(axis=0)
    _, s, vt = np.linalg.svd(flat - centre, full_matrices=False)
    return Linear(vt[:5].T / (s[:5] / np.sqrt(N)), centre.reshape(HEIGHT, WIDTH))


def region_means(rois):
    return np.stack([m.ravel() / m.sum() for m in rois], axis=1)


def test_perturb_masks_and_adds_without_clipping(images, rois):
    masked = perturb(images, rois[0], 3.0, 0.5)
    assert masked.dtype == np.float32 and np.all(masked[:, rois[0]] == 1.5)
    added = perturb(images, rois[0], 3.0, 0.5, mode="add")
    np.testing.assert_allclose(added[:, rois[0]], images[:, rois[0]] + 1.5)
    for changed in (masked, added):
        assert np.array_equal(changed[:, ~rois[0]], images[:, ~rois[0]])


def test_donors_of_a_small_cohort():
    """Nearest to 0.32 are brains 2, 3 and 1; two take turns, and the third stands in."""
    brightness = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert swap_donors(brightness, 0.32).tolist() == [2, 3, 1, 1, 2, 3]
    assert swap_donors(brightness[:3], 9.0).tolist() == [2, 0, 0]


@given(n=st.integers(3, 150), level=st.floats(-1, 10), seed=st.integers(0, 1000))
def test_donors_are_others_among_the_nearest(n, level, seed):
    """Brains equally near keep their order: the reference sorts by (distance, index)."""
    levels = np.random.default_rng(seed).integers(10, size=n).tolist()
    ranked = sorted(range(n), key=lambda i: (abs(levels[i] - level), i))
    n_near = max(2, n // 20)
    donors = swap_donors(np.array(levels), level)
    for brain, donor in enumerate(donors.tolist()):
        own = ranked[brain % n_near] == brain
        assert donor == ranked[n_near if own else brain % n_near]
        assert donor != brain


def test_swapped_regions_come_whole_from_their_donor(images, rois):
    weights, mu = np.array([[0.4, 1.0], [0.9, 1.6], [0.7, 0.8]]), np.array([0.5, 0.45, 0.6])
    field = receptive_field(
        Pixels(), images.astype(float), rois, weights, mean_brightness=mu, mode="swap", batch_size=6
    )
    seen = field.codes.reshape(3, 2, N, HEIGHT, WIDTH)
    brightness = region_brightness(images, rois)
    donated = set()
    for r, mask in enumerate(rois):
        for w in range(2):
            donors = swap_donors(brightness[r], weights[r, w] * mu[r])
            assert np.array_equal(seen[r, w][:, mask], images[donors][:, mask])
            assert np.array_equal(seen[r, w][:, ~mask], images[:, ~mask])
            donated.add(tuple(donors))
    assert len(donated) == 6
    assert np.array_equal(field.codes_original, images.reshape(N, -1))
    assert np.all(field.codes_masked.reshape(3, N, HEIGHT, WIDTH)[1][:, rois[1]] == 0)
    for batch_size in (1, 64):
        again = receptive_field(
            Pixels(),
            images.astype(float),
            rois,
            weights,
            mean_brightness=mu,
            mode="swap",
            batch_size=batch_size,
        )
        assert np.array_equal(again.codes, field.codes)


def test_weights_span_the_regions_own_range(images, rois):
    weights = weight_range(images, rois, n_weights=4)
    for r, mask in enumerate(rois):
        own = [float(brain[mask].mean(dtype=float)) for brain in images]
        low, high = np.percentile(own, 1), np.percentile(own, 99)
        np.testing.assert_allclose(weights[r], np.linspace(low, high, 4) / np.mean(own))
    np.testing.assert_allclose(weight_range(images, rois, mode="add", n_weights=4), weights - 1)
    halved = weight_range(images, rois, mean_brightness=[0.2, 0.3, 0.4])
    np.testing.assert_allclose(
        halved[:, 1] * [0.2, 0.3, 0.4],
        np.percentile([images[:, m].mean(axis=1, dtype=float) for m in rois], 99, axis=1),
    )


def test_additive_pca_has_the_closed_form(images, rois, whitened):
    weights = np.array([[-0.3, 0.1, 0.2], [0.0, 0.5, 1.0], [-1.0, 0.0, 0.25]])
    mu = np.array([0.5, 0.25, 0.75])
    field = receptive_field(
        whitened, images, rois, weights, mean_brightness=mu, mode="add", batch_size=5
    )
    for r, mask in enumerate(rois):
        shift = (weights[r, -1] - weights[r, 0]) * mu[r] * whitened.loadings[mask.ravel()].sum(0)
        np.testing.assert_allclose(field.divergence[r], shift**2 / 2, rtol=2e-4, atol=1e-6)
        np.testing.assert_allclose(field.effect_size[r], shift, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(field.stds, 1.0, rtol=1e-4)
    np.testing.assert_allclose(field.jeffreys, 2 * field.divergence, rtol=1e-3, atol=1e-6)


def test_floor_bounds_a_fully_masked_region(images, rois):
    """Every brain's masked region is alike: variance 0, held up by the floor."""
    field = receptive_field(
        Linear(region_means(rois)), images, rois, [0.8, 1.2], variance_floor=0.01
    )
    expected = (0.4 * field.mean_brightness) ** 2 / (2 * 0.01)
    np.testing.assert_allclose(np.diag(field.divergence), expected, rtol=1e-4)
    np.testing.assert_allclose(field.stds[np.arange(3), :, np.arange(3)], 0.1)


def test_a_dead_latent_scores_nothing(images, rois):
    """Its means barely move and its posterior is the prior; a live one knows what it sees."""
    loadings = region_means(rois)[:, [0, 0]] * 0.02
    field = receptive_field(WithPosterior(loadings, [1.0, 0.002]), images, rois, [0.5, 1.5])
    assert field.divergence[0, 0] < 1e-4 < 0.1 < field.divergence[0, 1]
    bare = receptive_field(Linear(loadings), images, rois, [0.5, 1.5], variance_floor=1e-9)
    assert bare.divergence[0, 0] > 0.1


def test_against_torch_distributions(images, rois):
    """A second implementation, brain by brain and latent by latent, with a posterior."""
    rng = np.random.default_rng(1)
    model = WithPosterior(rng.normal(0, 0.1, (HEIGHT * WIDTH, 4)), [0.3, 0.1, 0.6, 0.01])
    weights = np.array([[0.2, 1.0, 1.7], [0.9, 1.0, 1.3], [0.0, 0.1, 4.0]])
    field = receptive_field(model, images, rois, weights, batch_size=7)
    assert field.means.shape == field.stds.shape == (3, 3, 4)
    assert field.codes.shape == (3, 3, N, 4) and field.codes.dtype == np.float32
    assert np.array_equal(field.normalised(), normalised_impacts(field.divergence))

    def fitted(changed, k):
        codes = [float(brain.ravel() @ model.loadings[:, k]) for brain in changed]
        variance = np.var(codes) + float(model.std[k]) ** 2
        return torch.distributions.Normal(np.mean(codes), np.sqrt(variance))

    kl = torch.distributions.kl_divergence
    for r, mask in enumerate(rois):
        mu = images[:, mask].mean()

        def changed(w, mask=mask, mu=mu):
            out = images.astype(float).copy()
            out[:, mask] = w * mu
            return out

        for k in range(4):
            low, high = fitted(changed(weights[r, 0]), k), fitted(changed(weights[r, -1]), k)
            np.testing.assert_allclose(field.divergence[r, k], kl(low, high), rtol=1e-3, atol=1e-6)
            np.testing.assert_allclose(
                field.divergence_reverse[r, k], kl(high, low), rtol=1e-3, atol=1e-6
            )
            missing = kl(fitted(images.astype(float), k), fitted(changed(0.0), k))
            np.testing.assert_allclose(
                field.missing_information[r, k], missing, rtol=1e-3, atol=1e-6
            )


def test_resampling_equals_encoding_those_brains(images, rois):
    model = WithPosterior(region_means(rois) * 5, [0.3, 0.2, 0.1])
    mu = np.array([0.4, 0.5, 0.6])
    draw = np.array([0, 0, 3, 7, 22, 11, 3])
    kept = receptive_field(model, images, rois, [0.5, 1.5], mean_brightness=mu).resampled(draw)
    again = receptive_field(model, images[draw], rois, [0.5, 1.5], mean_brightness=mu)
    np.testing.assert_allclose(kept.divergence, again.divergence, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(kept.missing_information, again.missing_information, rtol=1e-4)
    stack = kept.bootstrapped(6, seed=0)
    assert stack.shape == (6, 3, 3) and np.array_equal(stack, kept.bootstrapped(6, seed=0))


@given(n_pixels=st.integers(4, 90), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_blobs_are_connected_and_inside(n_pixels, seed):
    brain = np.zeros((17, 29), dtype=bool)
    brain[3:12, 4:14] = brain[5:14, 18:25] = True  # 90 and 63 pixels, apart
    blobs = random_blobs(brain, n_pixels, 3, seed)
    assert blobs.shape == (3, 17, 29) and np.all(blobs.sum((1, 2)) == n_pixels)
    assert not blobs[:, ~brain].any()
    assert all(ndimage.label(b, np.ones((3, 3)))[1] == 1 for b in blobs)
    assert np.array_equal(blobs, random_blobs(brain, n_pixels, 3, seed))


@given(
    n_pixels=st.integers(8, 70),
    width=st.integers(14, 23),
    gap=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
def test_mirrored_blobs_are_two_halves(n_pixels, width, gap, seed):
    """In a brain with pixels on either side that have none opposite, for no blob to use."""
    brain = np.zeros((11, width), dtype=bool)
    brain[1:9, 1:-1] = True
    brain[2:6, :3] = brain[6:8, -4:] = False
    brain[:, width // 2 - gap : -(-width // 2) + gap] = False
    half = np.arange(width) < width // 2
    room = int((brain & brain[:, ::-1] & half).sum())
    if n_pixels // 2 > room:
        with pytest.raises(ValueError, match=f"from 4 to {room} fit"):
            random_blobs(brain, n_pixels, 2, seed, mirrored=True)
        return
    blobs = random_blobs(brain, n_pixels, 3, seed, mirrored=True)
    assert blobs.shape == (3, 11, width) and np.all(blobs.sum((1, 2)) == n_pixels // 2 * 2)
    assert np.array_equal(blobs, blobs[:, :, ::-1]) and not blobs[:, ~brain].any()
    assert np.all(blobs[:, :, half].sum((1, 2)) == n_pixels // 2)
    assert np.array_equal(blobs, random_blobs(brain, n_pixels, 3, seed, mirrored=True))
    for blob in blobs:
        pieces = ndimage.label(blob, np.ones((3, 3)))[1]
        assert ndimage.label(blob & half, np.ones((3, 3)))[1] == 1
        touches = width % 2 == 0 and blob[:, width // 2 - 1].any()
        assert pieces == (1 if touches else 2)


def test_null_fields_are_of_blobs_over_their_own_ranges(images, whitened):
    brain = np.ones((HEIGHT, WIDTH), dtype=bool)
    null = null_divergence(whitened, images, brain, 20, n_blobs=7, seed=3, mode="add")
    blobs = random_blobs(brain, 20, 7, 3)
    assert null.divergence.shape == (7, 5)
    np.testing.assert_allclose(null.weights, weight_range(images, blobs, mode="add"))
    options = {"mode": "swap", "batch_size": 7}
    null = null_divergence(whitened, images, brain, 21, 4, seed=5, mirrored=True, **options)
    blobs = random_blobs(brain, 20, 4, 5, mirrored=True)
    assert not np.array_equal(blobs, random_blobs(brain, 20, 4, 6, mirrored=True))
    expected = receptive_field(whitened, images, blobs, weight_range(images, blobs), **options)
    assert np.array_equal(null.codes, expected.codes)
    with pytest.raises(ValueError, match="missing=True"):
        _ = null.missing_information


@pytest.mark.parametrize("mode", ["mask", "add", "swap"])
def test_what_is_not_read_changes_nothing_else(images, rois, mode):
    model = WithPosterior(region_means(rois)[:, :2] * 5, [0.3, 0.2])
    whole, fewer, default = (
        receptive_field(model, images, rois, [0.5, 1.0, 1.5], mode=mode, batch_size=9, **options)
        for options in ({"missing": True}, {"missing": False}, {})
    )
    assert whole.codes_masked.shape == whole.posterior_variances_masked.shape == (3, N, 2)
    assert np.array_equal(whole.codes_masked, default.codes_masked)
    for name in ("weights", "mean_brightness", "mode", "variance_floor"):
        assert np.array_equal(getattr(whole, name), getattr(fewer, name))
    for name in ("codes", "codes_original"):
        for kind in (name, name.replace("codes", "posterior_variances")):
            assert np.array_equal(getattr(whole, kind), getattr(fewer, kind))
    assert np.array_equal(whole.divergence, fewer.divergence)
    draw = np.array([0, 5, 5, 22, 8])
    for field in (fewer, fewer.resampled(draw), fewer.rotated(0)):
        with pytest.raises(ValueError, match="read without missing=True; read it again") as error:
            _ = field.missing_information
        assert "\n" not in str(error.value)
    assert np.array_equal(whole.resampled(draw).divergence, fewer.resampled(draw).divergence)
    assert np.array_equal(whole.rotated(1).divergence, fewer.rotated(1).divergence)


def test_errors_name_what_was_given(images, rois, whitened):
    def field(*arguments, **options):
        return receptive_field(whitened, *arguments, **options)

    small = rois.copy()
    small[1] = False
    small[1, 0, :3] = True
    flat = np.full_like(images, 0.5)
    cases = [
        (r"shape \(1,\) .* at least 2 weights", field, images, rois, [1.0]),
        (r"shape \(3, 1\) .* at least 2 weights", field, images, rois, np.ones((3, 1))),
        ("rise.*sort them", field, images, rois, [1.0, 0.5]),
        ("rise", field, images, rois, [0.5, np.nan]),
        (r"\(3, n_weights\)", field, images, rois, np.ones((2, 4))),
        (r"\{1: 3\} have fewer than 4 pixels; leave", field, images, small, [0, 1]),
        (r"\{1: 3\} have fewer than 4 pixels; leave", weight_range, images, small),
        ("of one size", field, images, rois[:, :-1], [0, 1]),
        ("of one size", perturb, images, rois[0, :-1], 1, 1),
        ("mode 'multiply' .* 'swap' takes", lambda: field(images, rois, [0, 1], mode="multiply")),
        ("mode 'multiply'", lambda: perturb(images, rois[0], 1, 1, mode="multiply")),
        ("other brains; use receptive_field", lambda: perturb(images, rois[0], 1, 1, mode="swap")),
        ("2 brains cannot swap .* at least 3", swap_donors, np.array([0.2, 0.3]), 0.2),
        ("2 brains cannot swap", lambda: field(images[:2], rois, [0, 1], mode="swap")),
        ("at least 2 brains", field, images[:1], rois, [0, 1]),
        ("floor above 0", lambda: field(images, rois, [0, 1], variance_floor=0)),
        ("above 0 for each", lambda: field(images, rois, [0, 1], mean_brightness=[1.0, 1.0])),
        ("above 0 for each", field, images * 0, rois, [0, 1]),
        ("equally bright", weight_range, flat, rois),
        ("impossible", random_blobs, rois[0], 1000, 1, 0),
        ("impossible", random_blobs, rois[0], 3, 1, 0),
        ("impossible", lambda: random_blobs(rois[0], 7, 1, 0, mirrored=True)),
    ]
    refused(cases)


def test_what_an_encoder_may_not_answer(images, rois):
    one = np.ones
    shapes = "must answer .n, latent_dim"
    values = "NaN, inf or a negative std; check"
    cases = [
        (rf"shapes \({N},\) .* to {N} images.*{shapes}", Answers(lambda x: x[:, 0, 0])),
        (rf"shapes \(1, {WIDTH}\) .* to {N} images", Answers(lambda x: x[:1, 0])),
        (rf"shapes \({N}, {HEIGHT}, {WIDTH}\)", Answers(lambda x: x)),
        (rf"\({N}, 2\) and \({N}, 3\)", AnswersBoth(lambda x: (one((N, 2)), one((N, 3))))),
        (rf"\({N}, 2\) and \(2,\)", AnswersBoth(lambda x: (one((N, 2)), one(2)))),
        (values, Answers(lambda x: np.full((N, 2), np.nan))),
        (values, Answers(lambda x: np.full((N, 2), np.inf))),
        (values, AnswersBoth(lambda x: (one((N, 2)), np.full((N, 2), np.nan)))),
        (values, AnswersBoth(lambda x: (one((N, 2)), np.array([[1.0, -0.1]] * N)))),
    ]
    refused((said, lambda m=m: receptive_field(m, images, rois, [0, 1])) for said, m in cases)
    broken_when_masked = Answers(lambda x: one((N, 2)) / np.where(x[:, 2, 3] == 0, 0, 1)[:, None])
    with np.errstate(divide="ignore"):
        refused([(values, lambda: receptive_field(broken_when_masked, images, rois, [0.5, 1]))])


def test_a_model_without_an_active_latent_has_no_field_to_read(images, rois, whitened):
    field = receptive_field(whitened, images, rois, [0.5, 1.5])
    impacts, none = field.divergence, np.zeros(5, dtype=bool)
    readers = [
        lambda: normalised_impacts(impacts, none),
        lambda: field.normalised(none),
        lambda: most_moved(impacts, 1, none),
        lambda: uncorrelatedness(impacts, none),
        lambda: uncorrelatedness_null(impacts, 3, 0, none),
        lambda: bootstrap_uncorrelatedness(impacts, 3, 0, none),
        lambda: impact_covariance(impacts, none),
        lambda: cross_agreement(impacts, impacts.T, none),
        lambda: field.rotated(0, none),
    ]
    refused(("none of the 5 latents is active: .*; fit it longer or", read) for read in readers)


def test_fields_import_neither_models_nor_cohorts():
    for path in Path(brainvae_core.fields.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(".models" in n or ".cohorts" in n or "torch" in n for n in names), path


def test_tail_asymmetry_has_the_sign_of_the_stronger_tail(rois):
    variance = np.zeros((2, 4, HEIGHT, WIDTH))
    variance[0, 0][rois[0]], variance[0, 3][rois[0]] = 1.0, 3.0
    variance[0, 0][rois[1]] = 2.0
    found = tail_asymmetry(variance, rois)
    np.testing.assert_allclose(found, [[0.5, -1, 0], [0, 0, 0]])
    np.testing.assert_allclose(tail_asymmetry(variance[:, ::-1], rois), -found)
