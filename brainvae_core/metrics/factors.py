"""Does the code hold the planted factors, and what do they explain?"""

import numpy as np

from brainvae_core.metrics.checks import check_columns, checked_rows


def linear_recovery(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
) -> np.ndarray:
    """R² (n_factors,) of each planted factor, read off the code of test brains by regression.

    Least squares with an intercept on the training brains: whether a factor is in the code, not
    whether one latent is that factor. 1 is perfect, 0 no better than the test brains' average.

    Parameters
    ----------
    codes_train, codes_test : ndarray, shape (n, latent_dim)
        Of more training brains than latents + 1.
    factors_train, factors_test : ndarray, shape (n, n_factors)
    """
    codes_train, factors_train, codes_test, factors_test = _checked_sets(
        codes_train, factors_train, codes_test, factors_test
    )
    n, latent_dim = codes_train.shape
    if n <= latent_dim + 1:
        raise ValueError(
            f"{n} training brains cannot determine {latent_dim} coefficients and an intercept; "
            f"give at least {latent_dim + 2}"
        )
    # Centring and scaling keep a latent of tiny variance above lstsq's cut-off.
    codes_train, codes_test = _standardised(codes_train, codes_test)
    mean = factors_train.mean(axis=0)
    coefficients, *_ = np.linalg.lstsq(codes_train, factors_train - mean, rcond=None)
    residual = np.square(factors_test - (codes_test @ coefficients + mean)).sum(axis=0)
    return 1 - residual / np.square(factors_test - factors_test.mean(axis=0)).sum(axis=0)


def _standardised(train, test) -> tuple[np.ndarray, np.ndarray]:
    """Both by the training brains' mean and deviation; 0 where a column does not vary."""
    centre, scale = train.mean(axis=0), np.where(_vary(train), train.std(axis=0), np.inf)
    return (train - centre) / scale, (test - centre) / scale


def _vary(values) -> np.ndarray:
    """Which columns are more than one number and its rounding."""
    return values.std(axis=0) > 1e-9 * np.abs(values).max(axis=0)


def _checked_sets(*sets) -> list[np.ndarray]:
    """Codes and factors of training and of test brains that fit one another, or a ValueError."""
    names = ("codes_train", "factors_train", "codes_test", "factors_test")
    sets = [checked_rows(values, name) for values, name in zip(sets, names, strict=True)]
    for part, codes, factors in (("train", *sets[:2]), ("test", *sets[2:])):
        _check_paired(codes, factors, f"_{part}")
        _check_vary(factors, f"{part} ")
    for name, train, test in (("codes", *sets[::2]), ("factors", *sets[1::2])):
        check_columns(**{f"{name}_train": train, f"{name}_test": test})
    return sets


def _check_paired(codes, factors, part="") -> None:
    if len(codes) != len(factors):
        raise ValueError(
            f"codes{part} {codes.shape} and factors{part} {factors.shape} must have one row a brain"
        )


def _check_vary(factors, part="") -> None:
    constant = np.flatnonzero(~_vary(factors))
    if constant.size:
        raise ValueError(
            f"factor columns {constant.tolist()} (from 0) do not vary over the {part}brains; leave "
            "them out or give more brains"
        )
