"""CW-SSIM: known answers, properties, and a second implementation from the published filters."""

import importlib
import warnings

import numpy as np
import pyrtools
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plenoptic.process import SteerablePyramidFreq
from refusals import refused
from scipy import ndimage

from brainvae_core.metrics import CWSSIM, cw_ssim, cw_ssim_level
from brainvae_core.metrics.cw_ssim import bands


def random_images(n, shape, seed=0, blur=0.0):
    images = np.random.default_rng(seed).random((n, *shape))
    if blur:
        images = ndimage.gaussian_filter(images, (0, blur, blur), mode="wrap")
    return images.astype(np.float32)


def pyrtools_bands(image, level, orientations):
    """One level of pyrtools' pyramid."""
    pyramid = pyrtools.pyramids.SteerablePyramidFreq(
        image.astype(np.float64), height=level, order=orientations - 1, is_complex=True
    )
    return [pyramid.pyr_coeffs[level - 1, i] for i in range(orientations)]


def plain_cw_ssim(reference, image, level, orientations, weighting):
    """The score written out window by window, for even sizes."""
    scores = []
    pairs = (pyrtools_bands(x, level, orientations) for x in (reference, image))
    for x, y in zip(*pairs, strict=True):
        height, width = x.shape
        total = weight_sum = 0.0
        for top, left in np.ndindex(height - 6, width - 6):
            u, v = x[top : top + 7, left : left + 7], y[top : top + 7, left : left + 7]
            value = 2 * abs(np.vdot(v, u)) / ((abs(u) ** 2).sum() + (abs(v) ** 2).sum())
            from_centre = (top - (height - 7) / 2) ** 2 + (left - (width - 7) / 2) ** 2
            weight = np.exp(-from_centre / (2 * (height / 4) ** 2))
            weight = weight if weighting == "gaussian" else 1.0
            total, weight_sum = total + weight * value, weight_sum + weight
        scores.append(total / weight_sum)
    return np.mean(scores)


@pytest.mark.promise("metrics agree with second implementations")
@pytest.mark.parametrize("weighting", ["gaussian", "uniform"])
@pytest.mark.parametrize(
    ("shape", "level", "orientations"),
    [((320, 448), 4, 8), ((320, 448), 5, 16), ((96, 128), 2, 4), ((40, 56), 1, 8)],
)
def test_a_second_implementation_gives_the_same_score(shape, level, orientations, weighting):
    a, b = random_images(2, shape, seed=5, blur=1.0)
    expected = plain_cw_ssim(a, b, level, orientations, weighting)
    assert 0.05 < expected < 0.95
    found = cw_ssim(a, b, level, orientations, weighting)
    np.testing.assert_allclose(found, [expected], rtol=1e-6)
    np.testing.assert_allclose(cw_ssim(b, a, level, orientations, weighting), found, atol=1e-10)


@pytest.mark.parametrize("weighting", ["gaussian", "uniform"])
@pytest.mark.parametrize(("shape", "level"), [((96, 128), 3), ((45, 77), 3), ((17, 17), 2)])
def test_identical_images_score_1_and_brightness_changes_nothing(shape, level, weighting):
    images = random_images(2, shape).astype(np.float64)
    for same in (images, images + 0.3, images + 0.9):
        np.testing.assert_allclose(cw_ssim(images, same, level, 4, weighting), 1, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(17, 90), st.integers(17, 90)),
    level=st.integers(1, 4),
    orientations=st.integers(2, 5),
)
def test_bands_of_any_shape_are_those_of_the_whole_pyramid(shape, level, orientations):
    level = min(level, int(np.log2(min(shape))) - 2)
    images = random_images(2, shape).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd sizes
        pyramid = SteerablePyramidFreq(
            shape, height=level, order=orientations - 1, is_complex=True, tight_frame=False
        ).double()
    centred = torch.from_numpy(images - images.mean(axis=(1, 2), keepdims=True))
    wanted = pyramid(centred[:, None])[level - 1][:, 0]
    found = bands(images, level, orientations)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-12 * wanted.abs().max()


@pytest.mark.parametrize("n_references", [1, 7])
def test_references_are_kept_and_chunks_change_nothing(n_references, monkeypatch):
    references, images = random_images(n_references, (48, 64), 1), random_images(7, (48, 64), 2)
    one_by_one = np.broadcast_to(references, images.shape)
    wanted = [cw_ssim(x, y, 2, 4)[0] for x, y in zip(one_by_one, images, strict=True)]
    whole = CWSSIM(references, 2, 4)
    module = importlib.import_module("brainvae_core.metrics.cw_ssim")
    monkeypatch.setattr(module, "CHUNK_PIXELS", 2 * 48 * 64)
    kept = CWSSIM(references, 2, 4)
    assert whole.chunk > 7 and kept.chunk == 2 and CWSSIM(references, 1, 4).chunk == 1
    for similarity in (whole, kept, kept):
        np.testing.assert_allclose(similarity(images), wanted, atol=1e-12)
    with pytest.raises(ValueError, match=r"images \(7, 64, 48\) do not match"):
        kept(images.transpose(0, 2, 1))
    images[5] = 0.25
    with pytest.raises(ValueError, match="image 5 has nothing at level 2, orientation 1 of 4"):
        kept(images)
    with pytest.raises(ValueError, match="reference 5 has nothing at level 2"):
        CWSSIM(images, 2, 4)


@pytest.mark.parametrize(
    ("pixel_um", "level"), [(25, 4), (50, 3), (100, 2), (200, 1), (400, 1), (12.5, 5), (0.5, 10)]
)
def test_a_scale_has_its_level_at_every_pixel_size(pixel_um, level):
    assert cw_ssim_level(pixel_um) == level


def test_nonsense_is_refused_by_name():
    images = random_images(3, (64, 96))
    broken = images.copy()
    broken[2, 5, 5] = np.nan
    cases = [
        (r"\(1, 96, 64\).*\(3, 64, 96\)", cw_ssim, images[0].T, images),
        ("constant", cw_ssim, np.zeros((64, 96)), np.zeros((64, 96))),
        ("level 5 .*1 to 4", cw_ssim, images[0], images, 5),
        ("8 pixels", cw_ssim, images[0, :6], images[:, :6], 1),
        ("orientations.*2 to 16", cw_ssim, images[0], images, 4, 1),
        ("gaussian, uniform", lambda: cw_ssim(images[0], images, weighting="centre")),
        ("pixel_um=-1 must be positive", cw_ssim_level, -1),
    ]
    refused(cases)
    assert cw_ssim(images[0, :8], images[:, :8], level=1).shape == (3,)  # the fewest pixels
    faint = 1e-170 * images.astype(np.float64)
    with pytest.raises(ValueError, match="image 0 has values whose squares are beyond float64"):
        cw_ssim(faint[0], faint)


def test_a_level_responds_most_at_the_wavelength_it_is_said_to_have():
    columns = np.arange(256)
    periods = np.array([4, 8, 16, 32, 64])
    for level in (1, 2, 3, 4):
        waves = np.cos(2 * np.pi * columns / periods[:, None, None]).repeat(128, axis=1)
        energy = bands(waves, level, 4).abs().square().sum((1, 2, 3))
        best = periods[energy.argmax()]
        assert best == 2 ** (level + 1) and cw_ssim_level(800 / best) == level
