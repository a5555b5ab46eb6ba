"""PCA against NumPy's singular value decomposition, and what a projection must do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainvae_core.models import PCA

SHAPE = (6, 11)


def sections(n=17, rank=9, shape=SHAPE, seed=0):
    """Images around a grey, differing in ``rank`` directions of falling variance."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(rank, *shape)) / np.sqrt(np.prod(shape))
    weights = rng.normal(size=(n, rank)) * 0.7 ** np.arange(rank)
    return (0.5 + 0.3 * np.einsum("nr,rhw->nhw", weights, maps)).astype(np.float32)


def svd(images, latent_dim):
    """Mean, components (largest entry positive) and variances by another road."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    _, s, rows = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    rows = rows[:latent_dim]
    signs = np.sign([row[np.abs(row).argmax()] for row in rows])
    components = (rows * signs[:, None]).reshape(latent_dim, *images.shape[1:])
    return flat.mean(0).reshape(images.shape[1:]), components, s[:latent_dim] ** 2 / (len(flat) - 1)


@pytest.mark.parametrize(("n", "shape"), [(17, SHAPE), (40, (5, 4))])
def test_it_is_the_singular_value_decomposition(n, shape):
    images = sections(n, shape=shape)
    fit = PCA.fit(images, 5)
    mean, components, variances = svd(images, 5)
    np.testing.assert_allclose(fit.mean, mean, atol=1e-6)
    np.testing.assert_allclose(fit.variances, variances, rtol=1e-3)
    np.testing.assert_allclose(fit.components, components, atol=2e-3)
    others = sections(7, shape=shape, seed=1)
    scores = (others - mean).reshape(7, -1) @ components.reshape(5, -1).T
    np.testing.assert_allclose(fit.encode(others), scores / np.sqrt(variances), atol=1e-2)
    back = mean + (scores @ components.reshape(5, -1)).reshape(7, *shape)
    np.testing.assert_allclose(fit.reconstruct(others), back, atol=1e-4)


def test_the_sign_rule_makes_the_largest_entry_positive():
    flat = PCA.fit(sections(), 5).components.reshape(5, -1)
    assert (flat[np.arange(5), np.abs(flat).argmax(1)] > 0).all()


def test_components_are_orthonormal_and_in_order():
    fit = PCA.fit(sections(), 6)
    flat = fit.components.reshape(6, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(6), atol=1e-4)
    assert (np.diff(fit.variances) < 0).all()


def test_codes_of_the_training_images_are_white():
    images = sections()
    z = PCA.fit(images, 5).encode(images)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(z.T, ddof=1), np.eye(5), atol=1e-3)


def test_a_step_along_a_latent_is_one_standard_deviation():
    fit = PCA.fit(sections(), 3)
    moved = fit.decode(np.eye(3)) - fit.decode(np.zeros((3, 3)))
    expected = fit.components * np.sqrt(fit.variances)[:, None, None]
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    np.testing.assert_allclose(fit.decode(np.zeros((1, 3)))[0], fit.mean)


@pytest.mark.parametrize("latent_dim", [1, 3, 6])
def test_a_truncated_fit_is_the_fit_with_fewer(latent_dim):
    images = sections()
    cut, direct = PCA.fit(images, 6).truncated(latent_dim), PCA.fit(images, latent_dim)
    assert cut.latent_dim == latent_dim and cut.image_shape == SHAPE
    for name, value in direct.tensors().items():
        # A matrix product may round differently when it has fewer rows.
        np.testing.assert_allclose(cut.tensors()[name], value, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("latent_dim", [0, 7])
def test_a_fit_is_never_truncated_to_more(latent_dim):
    with pytest.raises(ValueError, match=f"latent_dim={latent_dim}: this fit has 1 to 6"):
        PCA.fit(sections(), 6).truncated(latent_dim)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), latent_dim=st.integers(1, 5))
def test_reconstruct_is_a_projection(seed, latent_dim):
    fit = PCA.fit(sections(seed=seed), latent_dim)
    once = fit.reconstruct(sections(5, seed=seed + 1))
    np.testing.assert_allclose(fit.reconstruct(once), once, atol=1e-4)
    z = np.random.default_rng(seed).normal(size=(4, latent_dim))
    np.testing.assert_allclose(fit.encode(fit.decode(z)), z, atol=2e-2)


def test_all_components_give_the_training_images_back():
    images = sections(6, rank=5)
    np.testing.assert_allclose(PCA.fit(images, 5).reconstruct(images), images, atol=1e-5)


def test_arrays_are_float32_even_where_images_are_not():
    fit = PCA.fit(sections().astype(np.float64), 4)
    z = fit.encode(sections(3).astype(np.float64))
    assert z.shape == (3, 4) and z.dtype == np.float32
    assert fit.decode(z.astype(np.float64)).dtype == np.float32
    assert {a.dtype for a in fit.tensors().values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("latent_dim", [0, 5, 6])
def test_n_images_have_no_more_than_n_minus_one_components(latent_dim):
    with pytest.raises(ValueError, match=f"latent_dim={latent_dim}: 5 images have 1 to 4"):
        PCA.fit(sections(5), latent_dim)


def test_too_few_directions_are_refused_with_their_number():
    with pytest.raises(ValueError, match="17 images differ in only 3 directions"):
        PCA.fit(sections(rank=3), 4)
    assert PCA.fit(sections(rank=3), 3).latent_dim == 3


def test_equal_images_differ_in_no_direction():
    with pytest.raises(ValueError, match="differ in only 0 directions"):
        PCA.fit(np.repeat(sections(1), 9, axis=0), 1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((17, 66)), r"shape \(17, 66\); this model takes \(n, height, width\)"),
        (
            np.where(np.arange(17)[:, None, None] == 4, np.nan, sections()),
            "image 4 of 17 has a NaN",
        ),
    ],
)
def test_wrong_images_are_refused_in_one_line(images, message):
    with pytest.raises(ValueError, match=message) as error:
        PCA.fit(images, 2)
    assert "\n" not in str(error.value)


def test_images_and_codes_of_another_size_are_refused():
    fit = PCA.fit(sections(), 2)
    with pytest.raises(ValueError, match=r"shape \(3, 11, 6\); this model takes \(n, 6, 11\)"):
        fit.encode(sections(3, shape=(11, 6)))
    with pytest.raises(ValueError, match=r"codes have shape \(4, 3\); this model takes \(n, 2\)"):
        fit.decode(np.zeros((4, 3)))
