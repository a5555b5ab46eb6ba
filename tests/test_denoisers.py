"""Classical denoisers: what each is for, what it may not do, and how its amount is chosen."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from brainvae_core.models import DENOISERS, Denoiser, tuned_denoiser

SHAPE = (31, 44)
each = pytest.mark.parametrize("name", DENOISERS)


def smooth(n=3, seed=0):
    images = np.random.default_rng(seed).random((n, *SHAPE))
    images = gaussian_filter(images, (0, 4, 4))
    return (0.5 + 3 * (images - images.mean())).clip(0.1, 0.9).astype(np.float32)


def noisy(images, spread=0.05):
    return images + np.random.default_rng(1).normal(0, spread, images.shape).astype(np.float32)


def error(a, b):
    return float(np.square(a - b).mean())


@each
def test_noise_is_taken_away(name):
    clean = smooth()
    denoiser = tuned_denoiser(name, clean, noisy(clean))
    found = denoiser.reconstruct(noisy(clean))
    assert found.shape == clean.shape and found.dtype == np.float32
    assert error(found, clean) < 0.6 * error(noisy(clean), clean)
    # Image by image: an image's neighbours in the stack are none of its own.
    alone = denoiser.reconstruct(noisy(clean)[1:2])
    np.testing.assert_array_equal(alone[0], found[1])


@each
def test_the_amount_is_that_of_least_error(name):
    clean = smooth()
    found = tuned_denoiser(name, clean, noisy(clean))
    errors = [
        error(Denoiser(name, amount).reconstruct(noisy(clean)), clean)
        for amount in DENOISERS[name].amounts
    ]
    assert found.amount == DENOISERS[name].amounts[int(np.argmin(errors))]
    assert tuned_denoiser(name, clean, clean).amount == DENOISERS[name].amounts[0]


def test_nonsense_is_refused_by_name():
    images = smooth()
    with pytest.raises(ValueError, match="no denoiser 'mean'; there are median, non-local means"):
        Denoiser("mean", 3)
    with pytest.raises(ValueError, match="amount=0 of median must be positive"):
        Denoiser("median", 0)
    with pytest.raises(ValueError, match=r"clean \(3, 31, 44\) and corrupted \(2, 31, 44\)"):
        tuned_denoiser("median", images, images[:2])
    broken = images.copy()
    broken[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="image 1 of 3 has a NaN"):
        tuned_denoiser("median", broken, images)
    images[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="image 1 of 3 has a NaN"):
        Denoiser("median", 3).reconstruct(images)
