"""Explained variance, artefacts of every kind and strength, their detectors, and spectra."""

from types import SimpleNamespace

import numpy as np
import pytest
from refusals import refused
from scipy.stats import mannwhitneyu
from toys import Answers

from brainvae_core.metrics import (
    ErrorMap,
    artefact_removal,
    auc,
    error_score,
    explained_variance,
    explained_variance_per_brain,
    graded_removal,
    norm_ratio,
    pixel_detection,
    radial_spectrum,
    reproduced_change,
)

SHAPE = (13, 18)


def brains(n=5, seed=0):
    return np.random.default_rng(seed).random((n, *SHAPE)).astype(np.float32)


MEAN = brains(40, seed=99).mean(axis=0)


def breakages(clean):
    masks = np.zeros(clean.shape, dtype=bool)
    masks[:, 6:, :4] = True
    return np.where(masks, 0, clean), masks


def test_explained_variance_pools_brains_and_pixels():
    images, reconstructions = brains(), brains(seed=1)
    images[0] *= 0.1
    wanted = 1 - ((images - reconstructions) ** 2).sum() / ((images - MEAN) ** 2).sum()
    assert explained_variance(images, reconstructions, MEAN) == pytest.approx(wanted, rel=1e-5)
    each = explained_variance_per_brain(images, reconstructions, MEAN)
    assert each.shape == (5,)
    for i, value in enumerate(each):
        alone = explained_variance(images[i : i + 1], reconstructions[i : i + 1], MEAN)
        assert value == pytest.approx(alone, rel=1e-12)
    assert abs(each.mean() - wanted) > 0.01


def test_lines_are_told_from_a_brain_that_gets_darker():
    clean = 0.4 + 0.6 * brains()
    darker = np.full(SHAPE, -0.1)
    lines = np.zeros(SHAPE)
    lines[::3] = -0.2
    masks = np.ones(clean.shape, dtype=bool)
    masks[:, 0, 0] = False
    corrupted = clean + darker + lines
    # Pixels of 200 µm: a mean over 0.5 mm takes lines that are 0.6 mm apart for nothing.
    for answer, pattern in ((darker + lines.mean(), 0), (darker + lines, 1), (lines, 1)):
        found = artefact_removal(clean, corrupted, masks, clean, clean + answer, MEAN, 200)
        np.testing.assert_allclose(found.pattern, pattern, atol=0.05)
        assert (found.reproduced > 0.5).all()
    flat = artefact_removal(clean, clean + darker, masks, clean, clean + lines, MEAN, 200)
    np.testing.assert_array_equal(flat.pattern, 0)
    fine = artefact_removal(clean, corrupted, masks, clean, clean + lines, MEAN, 0.9)
    assert (fine.pattern > 0.9).all()  # of a brain far smaller than 0.5 mm all is fine


def test_a_second_implementation_agrees():
    clean, of_clean, of_corrupted = brains(3), brains(3, seed=4), brains(3, seed=5)
    corrupted, masks = breakages(clean)
    found = artefact_removal(clean, corrupted, masks, of_clean, of_corrupted, MEAN, 50)
    for i in range(3):
        artefact = (corrupted[i] - clean[i])[masks[i]][:, np.newaxis]
        answer = (of_corrupted[i] - of_clean[i])[masks[i]]
        times, *_ = np.linalg.lstsq(artefact, answer)
        assert found.reproduced[i] == pytest.approx(times[0], rel=1e-5)
        for shares, where in ((found.kept, ~masks[i]), (found.recovered, masks[i])):
            pixels = [x[where][np.newaxis, np.newaxis] for x in (clean[i], of_corrupted[i])]
            share = explained_variance(*pixels, MEAN[where][np.newaxis])
            assert shares[i] == pytest.approx(share, rel=1e-5)


def test_the_norm_of_a_projection_is_the_root_of_what_it_explains():
    images = brains().astype(np.float64)
    direction = brains(1, seed=7)[0] - 0.5
    direction /= np.linalg.norm(direction)
    times = np.tensordot(images - MEAN, direction, 2)
    projected = MEAN + times[:, None, None] * direction
    explained = explained_variance_per_brain(images, projected, MEAN)
    np.testing.assert_allclose(norm_ratio(images, projected, MEAN), np.sqrt(explained), rtol=1e-6)


@pytest.fixture
def graded():
    """Four brains with artefacts of two kinds and three strengths."""
    clean = brains(4).astype(np.float64)
    masks = np.zeros((2, 3, *clean.shape), bool)
    masks[0, :, :, 1:3, 2:5] = masks[1, :, :, 3:, 1:] = True
    strengths = np.random.default_rng(0).random(masks.shape) * [[[[0.3]]], [[[0.6]]], [[[1]]]]
    gains = np.random.default_rng(1).uniform(0.6, 0.9, masks.shape[:3])
    bare = gains[..., None, None] * clean
    found = {"kinds": ("leak", "grid"), "images": bare + masks * strengths * (1 - bare)}
    return SimpleNamespace(**found, masks=masks, undamaged=lambda kind: bare[kind], pixel_um=50)


class Halves:
    """Half way to the mean image, and careless with what it is given."""

    def reconstruct(self, images):
        images += MEAN
        return images / 2


def test_every_cell_is_that_artefacts_own_removal(graded):
    before = graded.images.copy()
    found = graded_removal(Halves(), graded, MEAN)
    np.testing.assert_array_equal(graded.images, before)
    np.testing.assert_allclose(found.reproduced, np.full((2, 3, 4), 0.5))
    np.testing.assert_allclose(found.kept, np.full((2, 3, 4), 0.75))
    for k, s in np.ndindex(2, 3):
        sets = graded.undamaged(k)[s], graded.images[k, s]
        answers = ((images + MEAN) / 2 for images in sets)
        alone = artefact_removal(*sets, graded.masks[k, s], *answers, MEAN, 50)
        np.testing.assert_allclose(found.recovered[k, s], alone.recovered)
        np.testing.assert_allclose(found.pattern[k, s], alone.pattern)


def test_patterns_are_of_the_kinds_that_are_asked(graded):
    found, some = (graded_removal(Halves(), graded, MEAN, of) for of in (None, ["grid"]))
    np.testing.assert_array_equal(some.pattern[1], found.pattern[1])
    assert np.isnan(some.pattern[0]).all()
    np.testing.assert_array_equal(some.reproduced, found.reproduced)


# ---- noticing what is wrong ----


def test_pixels_are_judged_brain_by_brain():
    rng = np.random.default_rng(0)
    masks = rng.random((4, *SHAPE)) < 0.2
    maps = rng.random((4, *SHAPE)) + np.array([0.0, 0.5, 5.0, -5.0])[:, None, None] * masks
    found = pixel_detection(maps, masks)
    assert found.shape == (4,) and found[2] == 1 and found[3] == 0
    assert 0.4 < found[0] < 0.6 < found[1] < 1
    maps = maps.round(1)  # ties
    again = pixel_detection(maps, masks)
    for of, image, mask in zip(again, maps, masks, strict=True):
        u = mannwhitneyu(image[mask], image[~mask]).statistic / mask.sum() / (~mask).sum()
        assert of == pytest.approx(u) == auc(image[~mask], image[mask])


def test_an_error_is_held_against_what_is_usual_in_its_pixel():
    ordinary = np.full((5, *SHAPE), 0.5)
    ordinary[:, 2, 3] = 1.0  # errs twice as much there, always
    ordinary[:, 0, 0] = 0.0  # never
    ordinary[:2, 4, 1] = 1.0  # in two brains of five
    paints_less = SimpleNamespace(reconstruct=lambda images: 0.9 * images)
    error = ErrorMap(paints_less, ordinary)
    assert error.spread[2, 3] == pytest.approx(0.1) and error.spread[0, 0] == 0.01
    assert error.spread[4, 1] == pytest.approx(np.sqrt((2 * 0.1**2 + 3 * 0.05**2) / 5))
    images = np.full((2, *SHAPE), 0.5)
    images[1, 2, 3] = images[1, 0, 0] = 1.0
    maps = error(images)
    assert maps.shape == images.shape
    np.testing.assert_allclose(maps[1, 5, 5], 1)
    np.testing.assert_allclose(maps[1, 2, 3], 1)
    np.testing.assert_allclose(maps[1, 0, 0], 10)
    assert error_score(maps).shape == (2,)
    assert error_score(maps)[1] > error_score(maps)[0]
    np.testing.assert_allclose(error_score(np.full((2, 3, *SHAPE), 4.0)), 4)


# ---- radial spectra ----

WIDE = (60, 85)


def wave(per_mm, angle, pixel_um, shape=WIDE):
    y, x = np.indices(shape) * pixel_um / 1000
    return np.cos(2 * np.pi * per_mm * (y * np.sin(angle) + x * np.cos(angle)))[np.newaxis]


@pytest.mark.parametrize("angle", [0, 0.6, np.pi / 2])
@pytest.mark.parametrize(("per_mm", "pixel_um"), [(1.5, 100.0), (3.1, 100.0), (8.0, 50.0)])
def test_a_wave_is_found_at_its_frequency_in_every_direction(per_mm, angle, pixel_um):
    frequencies, power = radial_spectrum(wave(per_mm, angle, pixel_um), pixel_um, 12)
    ratio = frequencies[1] / frequencies[0]
    assert abs(np.log(frequencies[power[0].argmax()] / per_mm)) <= np.log(ratio) / 2 + 1e-9
    # The window spreads it over its neighbours, no further.
    near = np.abs(np.log(frequencies / per_mm)) < 1.6 * np.log(ratio)
    assert power[0, near].sum() > 0.9 * power[0].sum()
    assert power[0].sum() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(("shape", "axis"), [((60, 85), 0), ((60, 84), 1)])
def test_the_nyquist_frequency_is_in_the_last_ring(shape, axis):
    lines = np.indices(shape)[[axis]] % 2 * 2.0 - 1
    assert radial_spectrum(lines, 50.0, 12)[1][0, 11] == pytest.approx(0.78, abs=0.01)


@pytest.mark.parametrize("shape", [(60, 85), (61, 84), (64, 96)])
def test_noise_has_as_much_power_as_a_ring_has_frequencies(shape):
    noise = np.random.default_rng(0).standard_normal((200, *shape))
    frequencies, power = radial_spectrum(noise, 100.0, 8)
    ratio = (frequencies[1] / frequencies[0]) ** 0.5
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(size, 0.1) for size in shape), indexing="ij"))
    for middle, found in zip(frequencies, power.mean(axis=0), strict=True):
        share = ((radius >= middle / ratio) & (radius < middle * ratio)).mean()
        assert found == pytest.approx(share, rel=0.04, abs=2e-4)  # few frequencies, one window
    assert power.mean(axis=0).sum() == pytest.approx(np.pi / 4, rel=0.05)  # a disc in its square


def test_nonsense_is_refused_by_name(graded):
    clean = brains()
    wrong = Answers(encode=lambda images: images, decode=lambda images: images[:, None])
    corrupted, masks = breakages(clean)
    broken, empty, turned = clean.copy(), masks.copy(), clean.transpose(0, 2, 1)
    broken[2, 0, 0], empty[3] = np.nan, False
    mean = np.broadcast_to(MEAN, clean.shape)
    near = MEAN * np.float64(1 + 1e-7)  # but for the rounding of single precision
    one, two, torn = np.stack([clean[0], MEAN]), clean[:2], breakages(mean)[0]
    given = {"clean": clean, "corrupted": corrupted, "masks": masks, "mean_image": MEAN}
    given |= {"of_clean": clean, "of_corrupted": clean, "pixel_um": 50}

    def removed(**changed):
        artefact_removal(**given | changed)

    cases = [
        (r"\(5, 18, 13\).*\(5, 13, 18\)", explained_variance, clean, turned, MEAN),
        (r"mean image is \(18, 13\)", explained_variance, clean, clean, MEAN.T),
        (r"reconstructions\[2\].*not finite", explained_variance, clean, broken, MEAN),
        ("no variance", explained_variance, mean, clean, MEAN),
        ("image 1 equals the mean", explained_variance_per_brain, one, two, MEAN),
        ("image 1 equals the mean", norm_ratio, one, two, MEAN),
        ("mask of brain 3 is empty", lambda: removed(masks=empty)),
        ("mask of brain 3 covers the whole image", lambda: removed(masks=~empty)),
        ("brain 0 is the same", lambda: removed(corrupted=clean)),
        ("masks .* one shape", lambda: removed(masks=masks[0])),
        (r"corrupted\[2\].*not finite", lambda: removed(corrupted=broken)),
        (r"of_corrupted\[2\].*not finite", lambda: removed(of_corrupted=broken)),
        (r"of_clean \(5, 18, 13\)", lambda: removed(of_clean=turned)),
        ("0 is the mean image outside", lambda: removed(clean=mean, corrupted=torn)),
        (
            "0 is .* outside",
            lambda: removed(clean=mean, corrupted=torn, mean_image=near),
        ),
        ("pixel_um=0 must be positive", lambda: removed(pixel_um=0)),
        ("brain 0 does not change", reproduced_change, clean, clean, clean, clean),
        (r"of_after\[2\].*not finite", reproduced_change, clean, corrupted, clean, broken),
        (r"the model's .* are \(12, 1, 13, 18\); of", graded_removal, wrong, graded, MEAN),
        ("pixel_um=0 .*must be positive", radial_spectrum, clean, 0),
        ("n_bins=0 must be positive", radial_spectrum, clean, 50.0, 0),
    ]
    maps, there = np.zeros((3, *SHAPE)), np.zeros((3, *SHAPE), bool)
    there[0, 0, 0] = True
    nothing = SimpleNamespace(reconstruct=lambda images: np.full_like(images, np.nan))
    cases += [
        ("not finite", auc, [0.3, np.nan], [1.0]),
        ("all clean or all corrupted", auc, [0.3, 1.0], []),
        (r"brains \[1, 2\] are empty", pixel_detection, maps, there),
        ("the model's reconstruction 0 is not finite", ErrorMap, nothing, np.ones((2, *SHAPE))),
    ]
    refused(cases)
