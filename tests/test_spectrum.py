"""Radial spectra: waves land where they belong, noise is flat, power is conserved."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainvae_core.metrics import radial_spectrum

SHAPE = (60, 85)


def wave(per_mm, angle, pixel_um, shape=SHAPE):
    y, x = np.indices(shape) * pixel_um / 1000
    return np.cos(2 * np.pi * per_mm * (y * np.sin(angle) + x * np.cos(angle)))[np.newaxis]


@pytest.mark.parametrize("angle", [0, 0.6, np.pi / 2, 2.5])
@pytest.mark.parametrize(("per_mm", "pixel_um"), [(1.5, 100.0), (3.1, 100.0), (8.0, 50.0)])
def test_a_wave_is_found_at_its_frequency_in_every_direction(per_mm, angle, pixel_um):
    frequencies, power = radial_spectrum(wave(per_mm, angle, pixel_um), pixel_um, 12)
    ratio = frequencies[1] / frequencies[0]
    assert abs(np.log(frequencies[power[0].argmax()] / per_mm)) <= np.log(ratio) / 2 + 1e-9
    # The window spreads it over its neighbours, no further.
    near = np.abs(np.log(frequencies / per_mm)) < 1.6 * np.log(ratio)
    assert power[0, near].sum() > 0.9 * power[0].sum()
    assert power[0].sum() == pytest.approx(0.5, rel=0.05)


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


def test_the_mean_brightness_has_no_frequency():
    frequencies, power = radial_spectrum(np.ones((2, *SHAPE)), 100.0, 10)
    wave_power = radial_spectrum(wave(3, 0.3, 100.0), 100.0, 10)[1]
    assert power[:, 3:].sum() < 1e-3 * wave_power.sum()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), scale=st.floats(0.1, 10))
def test_power_goes_with_the_square_and_flips_change_nothing(seed, scale):
    images = np.random.default_rng(seed).random((2, *SHAPE))
    _, power = radial_spectrum(images, 50.0)
    np.testing.assert_allclose(radial_spectrum(scale * images, 50.0)[1], scale**2 * power)
    np.testing.assert_allclose(radial_spectrum(images[:, ::-1], 50.0)[1], power, rtol=1e-6)
    np.testing.assert_allclose(
        radial_spectrum(images.transpose(0, 2, 1), 50.0)[1], power, rtol=1e-6
    )


def test_nonsense_is_refused_by_name():
    images = np.zeros((2, *SHAPE))
    with pytest.raises(ValueError, match="pixel_um=0 must be positive"):
        radial_spectrum(images, 0)
    with pytest.raises(ValueError, match="n_bins=0 at least 1"):
        radial_spectrum(images, 50.0, 0)
    images[1, 3, 3] = np.nan
    with pytest.raises(ValueError, match=r"images\[1\] has pixels"):
        radial_spectrum(images, 50.0)
