"""What codes say without an image: which is which, planted factors, neighbours, outliers, tails."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.stats import binom, ortho_group

from brainvae_core.metrics.checks import check_columns, check_one_shape, checked_rows

NULL_DRAWS = 20
MIDDLE = (1 - 0.95) / 2, (1 + 0.95) / 2


def active_latents(means: np.ndarray) -> np.ndarray:
    """Which latents tell brains apart (Burda et al. 2016, § 5.2), (latent_dim,) bool.

    Those whose posterior mean (n, latent_dim) has a variance over brains above 0.01.
    """
    return checked_rows(means, "means").var(axis=0) > 0.01


class Matching(NamedTuple):
    """For each latent of a reference fit, the latent of another fit that stands for it.

    ``sign * codes[:, order]`` are the reference's latents; ``correlation`` (latent_dim,) is the
    absolute Pearson's r of the pairs over brains.
    """

    order: np.ndarray
    sign: np.ndarray
    correlation: np.ndarray


def match_latents(reference: np.ndarray, codes: np.ndarray) -> Matching:
    """Pair the latents of two fits, one to one, so that ``|r|`` over brains is largest in sum.

    Both codes are (n_brains, latent_dim) of the same brains, at least 3.
    """
    reference, codes = checked_rows(reference, "reference", 3), checked_rows(codes, "codes", 3)
    check_one_shape(reference=reference, codes=codes)
    correlation = _units(reference).T @ _units(codes)
    rows, order = linear_sum_assignment(-np.abs(correlation))
    pairs = correlation[rows, order]
    return Matching(order, np.where(pairs < 0, -1, 1), np.minimum(np.abs(pairs), 1.0))


def matching_null(reference: np.ndarray, codes: np.ndarray, n: int, seed: int) -> np.ndarray:
    """``|r|`` (n, latent_dim) of latents matched to random axes of the other fit's own space.

    What two fits share anyway is the space that their codes span; axes come back where ``|r|``
    exceeds what any axes of that space would give.

    Parameters
    ----------
    reference, codes, n, seed
        As of `match_latents`; the second's are whitened and turned n times.
    """
    codes = checked_rows(codes, "codes")
    left, size, _ = np.linalg.svd(codes - codes.mean(axis=0), full_matrices=False)
    white = left[:, size > 1e-9 * size.max()]
    missing = np.zeros((len(codes), codes.shape[1] - white.shape[1]))
    rng, size = np.random.default_rng(seed), white.shape[1]
    found = []
    for _ in range(n):
        # SciPy 1.14 draws no rotation of one axis.
        turn = ortho_group.rvs(size, random_state=rng) if size > 1 else np.eye(size)
        found.append(match_latents(reference, np.hstack([white @ turn, missing])).correlation)
    return np.stack(found)


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
    sets = {"codes_train": codes_train, "factors_train": factors_train}
    sets |= {"codes_test": codes_test, "factors_test": factors_test}
    sets = {name: checked_rows(values, name) for name, values in sets.items()}
    for part in ("train", "test"):
        codes, factors = sets[f"codes_{part}"], sets[f"factors_{part}"]
        if len(codes) != len(factors):
            raise ValueError(
                f"codes_{part} {codes.shape} and factors_{part} {factors.shape} must have one row "
                "a brain"
            )
        if (constant := np.flatnonzero(~_vary(factors))).size:
            raise ValueError(
                f"factor columns {constant.tolist()} (from 0) do not vary over the {part} brains; "
                "leave them out or give more brains"
            )
    for name in ("codes", "factors"):
        check_columns(**{f"{name}_{part}": sets[f"{name}_{part}"] for part in ("train", "test")})
    codes_train, factors_train, codes_test, factors_test = sets.values()
    n, latent_dim = codes_train.shape
    if n <= latent_dim + 1:
        raise ValueError(
            f"{n} training brains cannot determine {latent_dim} coefficients and an intercept; "
            f"give at least {latent_dim + 2}"
        )
    # Centring and scaling keep a latent of tiny variance above lstsq's cut-off.
    centre = codes_train.mean(axis=0)
    scale = np.where(_vary(codes_train), codes_train.std(axis=0), np.inf)
    codes_train, codes_test = (codes_train - centre) / scale, (codes_test - centre) / scale
    mean = factors_train.mean(axis=0)
    coefficients, *_ = np.linalg.lstsq(codes_train, factors_train - mean, rcond=None)
    residual = np.square(factors_test - (codes_test @ coefficients + mean)).sum(axis=0)
    return 1 - residual / np.square(factors_test - factors_test.mean(axis=0)).sum(axis=0)


def _vary(values) -> np.ndarray:
    """Which columns are more than one number and its rounding."""
    return values.std(axis=0) > 1e-9 * np.abs(values).max(axis=0)


def spread(codes: np.ndarray) -> float:
    """Root mean square distance of codes (n, latent_dim) from their mean, in their unit."""
    return float(np.sqrt(checked_rows(codes, "codes").var(axis=0).sum()))


def nearest_distances(codes: np.ndarray) -> np.ndarray:
    """Distance (n,) of every code (n, latent_dim) to its nearest neighbour."""
    codes = checked_rows(codes, "codes")
    return cKDTree(codes).query(codes, 2)[0][:, 1]


def clustering(codes: np.ndarray) -> float:
    """How much nearer neighbours are than in a Gaussian sample.

    Mean nearest distance of codes (n, latent_dim) over what it is in Gaussian samples of the same
    size, mean and covariance: 1 for Gaussian codes, below 1 in clusters, above 1 where they keep
    apart. The ratio of Clark and Evans (1954), with a Gaussian in place of a uniform field.
    """
    codes = checked_rows(codes, "codes")
    if not np.ptp(codes, axis=0).any():
        raise ValueError("the codes are all the same, so they have no neighbours to speak of")
    centred = codes - codes.mean(axis=0)
    rng, n = np.random.default_rng(0), len(codes)
    # A product with the codes themselves has their covariance, singular or not.
    samples = (rng.standard_normal((n, n)) @ centred / np.sqrt(n - 1) for _ in range(NULL_DRAWS))
    expected = np.mean([nearest_distances(sample).mean() for sample in samples])
    return float(nearest_distances(codes).mean() / expected)


def outlier_score(train_codes: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distance (n,) of codes (n, latent_dim) from those of the training brains.

    About ``latent_dim`` for a training brain. Latents that do not move over the training brains are
    left out; one that hardly moves, such as one that is not active, weighs as much as the others.
    A ValueError where there are fewer training brains than latents + 2, or one is a sum of others.
    """
    train_codes, codes = checked_rows(train_codes, "train_codes"), checked_rows(codes, "codes", 1)
    check_columns(train_codes=train_codes, codes=codes)
    deviation = train_codes.std(axis=0)
    moves = deviation > 1e-6 * deviation.max()
    if not moves.any():
        raise ValueError("the training codes are all the same: nothing lies outside them")
    if len(train_codes) < moves.sum() + 2:
        raise ValueError(
            f"{len(train_codes)} training brains do not span {moves.sum()} latents; give at least "
            f"{moves.sum() + 2}"
        )
    centre = train_codes[:, moves].mean(axis=0)
    factor = np.linalg.qr(train_codes[:, moves] - centre, mode="r") / np.sqrt(len(train_codes) - 1)
    if (np.abs(np.diag(factor)) <= 1e-6 * deviation[moves]).any():
        raise ValueError(
            "some latent of the training brains is a sum of others, so distances along it have no "
            "unit; leave it out"
        )
    whitened = np.linalg.lstsq(factor.T, (codes[:, moves] - centre).T, rcond=None)[0]
    return np.square(whitened).sum(axis=0)


def tail_counts(clean: np.ndarray, unusual: np.ndarray) -> np.ndarray:
    """How many unusual brains lie below and above the middle 95 % of the rest: (latent_dim, 2)."""
    low, high = np.quantile(clean, MIDDLE, axis=0)
    return np.stack([(unusual < low).sum(axis=0), (unusual > high).sum(axis=0)], axis=1)


def sidedness(counts: np.ndarray) -> float:
    """``Σ |above − below| / Σ (above + below)`` of `tail_counts`, 0 to 1; chance is not 0."""
    total = counts.sum()
    return float(np.abs(np.diff(counts.astype(np.int64), axis=1)).sum() / total) if total else 0.0


def sidedness_beyond_chance(codes: np.ndarray, unusual: np.ndarray) -> float:
    """How much more than by chance unusual brains keep to one side of each latent, −1 to 1.

    `sidedness` of codes (n_brains, latent_dim) and of which brains, (n_brains,) bool, less its
    expectation where sides are drawn at random. Limits that are quantiles of few brains lie
    unequally far out, so brains like all others are not quite at 0 (0.05 of 100 beside 300 others,
    0.09 of 40 beside 100).
    """
    codes, unusual = checked_rows(codes, "codes"), np.asarray(unusual)
    if unusual.dtype != bool or unusual.shape != codes.shape[:1] or unusual.all() | ~unusual.any():
        raise ValueError(
            f"unusual is {unusual.dtype} of shape {unusual.shape}; give one bool a brain of "
            f"{len(codes)}, some of them true and some not"
        )
    counts = tail_counts(codes[~unusual], codes[unusual])
    outside = counts.sum(axis=1)
    if not outside.sum():
        return 0.0
    # E|n − 2B| of a binomial: the expected difference of two tails of n brains.
    expected = [
        np.abs(n - 2 * np.arange(n + 1)) @ binom.pmf(np.arange(n + 1), n, 0.5) for n in outside
    ]
    return sidedness(counts) - float(np.sum(expected) / outside.sum())


def _units(codes: np.ndarray) -> np.ndarray:
    """Centred columns of length 1; those that do not vary are 0."""
    centred = codes - codes.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    rounding = 1e-9 * len(codes) ** 0.5 * np.abs(codes).max(axis=0)
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > rounding)
