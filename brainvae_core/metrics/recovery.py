"""Does the code hold what was planted, and which latents say anything at all?"""

from __future__ import annotations

import numpy as np

from brainvae_core.metrics.checks import checked_images, checked_rows
from brainvae_core.metrics.denoising import explained_variance


def linear_recovery(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
) -> np.ndarray:
    """How well each planted factor is read off the code by linear regression.

    Least squares with an intercept on one set of brains, scored on another. Rotating, permuting,
    shifting or rescaling latents changes nothing: this asks whether a factor is in the code, not
    whether one latent is that factor. A latent that barely moves is rescaled like any other;
    `active_latents` says which to leave out.

    Parameters
    ----------
    codes_train, codes_test : ndarray, shape (n, latent_dim)
    factors_train, factors_test : ndarray, shape (n, n_factors)

    Returns
    -------
    ndarray of float64, shape (n_factors,)
        R² on the test brains: 1 perfect, 0 no better than the test brains' average factor,
        negative worse than that.

    Raises
    ------
    ValueError
        Shapes do not match, a number is not finite, there are no more training brains than
        latents + 1, or a factor does not vary.
    """
    codes_train = checked_rows(codes_train, "codes_train")
    factors_train = checked_rows(factors_train, "factors_train")
    codes_test = checked_rows(codes_test, "codes_test")
    factors_test = checked_rows(factors_test, "factors_test")
    _check_rows_and_columns(codes_train, factors_train, codes_test, factors_test)
    for name, factors in (("training", factors_train), ("test", factors_test)):
        constant = np.flatnonzero(np.ptp(factors, axis=0) == 0)
        if constant.size:
            raise ValueError(
                f"factor columns {constant.tolist()} (from 0) do not vary over the {name} brains, "
                "so R² is undefined; leave them out or give more brains"
            )
    # Centring and scaling keep a latent of tiny variance above lstsq's cut-off.
    centre, scale = codes_train.mean(axis=0), codes_train.std(axis=0)
    scale = np.where(scale > 1e-9 * np.abs(codes_train).max(axis=0), scale, np.inf)
    coefficients, *_ = np.linalg.lstsq(
        (codes_train - centre) / scale, factors_train - factors_train.mean(axis=0), rcond=None
    )
    predicted = (codes_test - centre) / scale @ coefficients + factors_train.mean(axis=0)
    residual = np.square(factors_test - predicted).sum(axis=0)
    return 1 - residual / np.square(factors_test - factors_test.mean(axis=0)).sum(axis=0)


def explained_by_factors(
    factors_train: np.ndarray,
    images_train: np.ndarray,
    factors_test: np.ndarray,
    images_test: np.ndarray,
    degree: int = 1,
) -> float:
    """How much of what makes brains differ is a polynomial of the known factors, pixel by pixel.

    At degree 1 that is all a linear model could paint that knew the factors themselves; what
    degree 2 adds is a nonlinear model's to gain.

    Parameters
    ----------
    factors_train, factors_test : ndarray, shape (n, n_factors)
    images_train, images_test : ndarray, shape (n, height, width)
    degree : int
        1, or 2 with all squares and products.

    Returns
    -------
    float
        Explained variance of the test brains about the training mean.

    Raises
    ------
    ValueError
        Shapes do not match, a number is not finite, another degree, or no more training brains
        than coefficients.
    """
    if degree not in (1, 2):
        raise ValueError(f"degree={degree} must be 1 or 2")
    terms_train = _terms(checked_rows(factors_train, "factors_train"), degree)
    terms_test = _terms(checked_rows(factors_test, "factors_test"), degree)
    images_train = checked_images(images_train, "images_train")
    images_test = checked_images(images_test, "images_test")
    for part, terms, images in (
        ("train", terms_train, images_train),
        ("test", terms_test, images_test),
    ):
        if len(terms) != len(images):
            raise ValueError(
                f"factors_{part} and images_{part} have {len(terms)} and {len(images)} brains"
            )
    if terms_train.shape[1] != terms_test.shape[1] or len(terms_train) <= terms_train.shape[1]:
        raise ValueError(
            f"{len(terms_train)} training brains and {terms_train.shape[1]} coefficients, "
            f"{terms_test.shape[1]} of the test brains: give more brains, of the same factors"
        )
    flat = images_train.reshape(len(images_train), -1).astype(np.float64)
    coefficients = np.linalg.lstsq(terms_train, flat, rcond=None)[0]
    painted = (terms_test @ coefficients).reshape(images_test.shape)
    return explained_variance(images_test, painted, flat.mean(axis=0).reshape(painted.shape[1:]))


def _terms(factors, degree) -> np.ndarray:
    """One, the factors, and at degree 2 their squares and products, (n, n_terms)."""
    terms = np.column_stack([np.ones(len(factors)), factors])
    if degree == 2:
        first, second = np.triu_indices(factors.shape[1])
        terms = np.column_stack([terms, factors[:, first] * factors[:, second]])
    return terms


def active_latents(means: np.ndarray, threshold: float = 0.01) -> np.ndarray:
    """Which latents tell brains apart.

    Parameters
    ----------
    means : ndarray, shape (n, latent_dim)
        Posterior means of many brains.
    threshold : float
        Least variance of a latent's mean over brains, where the prior's variance is 1.

    Returns
    -------
    ndarray of bool, shape (latent_dim,)

    Raises
    ------
    ValueError
        Fewer than two brains, or a mean that is not finite.

    References
    ----------
    Burda, Grosse, Salakhutdinov (2016), ICLR, section 5.2.
    """
    return checked_rows(means, "means").var(axis=0) > threshold


def _check_rows_and_columns(codes_train, factors_train, codes_test, factors_test) -> None:
    for name, codes, factors in (
        ("train", codes_train, factors_train),
        ("test", codes_test, factors_test),
    ):
        if len(codes) != len(factors):
            raise ValueError(
                f"codes_{name} {codes.shape} and factors_{name} {factors.shape} must have one row "
                "a brain"
            )
    for name, train, test in (
        ("codes", codes_train, codes_test),
        ("factors", factors_train, factors_test),
    ):
        if train.shape[1] != test.shape[1]:
            raise ValueError(
                f"{name}_train {train.shape} and {name}_test {test.shape} must have equal columns"
            )
    n, latent_dim = codes_train.shape
    if n <= latent_dim + 1:
        raise ValueError(
            f"{n} training brains cannot determine {latent_dim} coefficients and an intercept; "
            f"give at least {latent_dim + 2}"
        )
