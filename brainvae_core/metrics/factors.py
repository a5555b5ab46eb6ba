"""Does the code hold the planted factors, and is each of them one latent?"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import entr
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestRegressor

from brainvae_core.metrics.checks import checked_images, checked_rows
from brainvae_core.metrics.reconstruction import explained_variance

# Of two unrelated columns of 200 brains the corrected information is 0.02 nats with 8 bins, 0.06
# with 10 and 0.6 with 20. Of 0.83 nats (a correlation of 0.9) 8 bins lose 0.13 and 5 lose 0.23.
BINS = 8
BRAINS_PER_CELL = 2  # fewer, and the correction no longer makes up for the empty cells
# Twice the trees change no score by more than 0.02. Single-brain leaves split on noise and so give
# importance to every latent; leaves of 10 blur what is read off 200 brains.
TREES = 50
LEAF = 5


def linear_recovery(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
) -> np.ndarray:
    """R² (n_factors,) of each planted factor, read off the code of test brains by regression.

    Least squares with an intercept on the training brains. Rotating, permuting, shifting or
    rescaling latents changes nothing: this asks whether a factor is in the code, not whether one
    latent is that factor. 1 is perfect, 0 no better than the test brains' average factor.

    Parameters
    ----------
    codes_train, codes_test : ndarray, shape (n, latent_dim)
    factors_train, factors_test : ndarray, shape (n, n_factors)

    Raises
    ------
    ValueError
        Shapes do not match, a number is not finite, there are no more training brains than
        latents + 1, or a factor does not vary.
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


def explained_by_factors(
    factors_train: np.ndarray,
    images_train: np.ndarray,
    factors_test: np.ndarray,
    images_test: np.ndarray,
    degree: int = 1,
) -> float:
    """How much of what makes brains differ is a polynomial of the known factors, pixel by pixel.

    Explained variance of the test brains about the training mean. At degree 1 that is all a linear
    model could paint that knew the factors themselves; what degree 2 adds (squares and products) is
    a nonlinear model's to gain. Factors are (n, n_factors), images (n, height, width).

    Parameters
    ----------
    factors_train, factors_test : ndarray, shape (n, n_factors)
    images_train, images_test : ndarray, shape (n, height, width)
    degree : {1, 2}
    """
    if degree not in (1, 2):
        raise ValueError(f"degree={degree} must be 1 or 2")

    def terms_of(factors, name):
        """One, the factors, and at degree 2 their squares and products, (n, n_terms)."""
        factors = checked_rows(factors, name)
        first, second = np.triu_indices(factors.shape[1])
        products = [factors[:, first] * factors[:, second]] if degree == 2 else []
        return np.column_stack([np.ones(len(factors)), factors, *products])

    terms_train = terms_of(factors_train, "factors_train")
    terms_test = terms_of(factors_test, "factors_test")
    images_train = checked_images(images_train, "images_train")
    images_test = checked_images(images_test, "images_test")
    sides = (("train", terms_train, images_train), ("test", terms_test, images_test))
    for part, terms, images in sides:
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


def mutual_information_gap(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
    """By how much the best latent for a factor beats the second best (Chen et al. 2018, § 4).

    A factor that two latents share has no gap, be it mixed into both or copied. The entropy of a
    continuous factor is that of its bins, so gaps compare only at one number of bins, and noise
    costs more than in a regression: a latent that correlates 0.9 with its factor (R² 0.81) and
    shares it with no other has a gap of 0.34 with 8 bins. The second best is the luckiest of many:
    in that example with 7 unrelated latents besides, 200 brains give a gap lower by 0.02
    (uncorrected 0.05), 700 brains by 0.00.

    Parameters
    ----------
    codes : ndarray, shape (n, latent_dim)
    factors : ndarray, shape (n, n_factors)
    bins : int
        Equally filled bins a column, at least 2.

    Returns
    -------
    ndarray of float64, shape (n_factors,)
        Of the factor's entropy, 0 to 1: 1 where one latent orders brains as the factor does and no
        other latent knows of it. Of a single latent the second largest is 0.

    Raises
    ------
    ValueError
        Rows do not match, a number is not finite, there are fewer than two brains a cell of the
        table (2 bins²), or a factor does not vary.
    """
    information = mutual_information(codes, factors, bins)
    # What a factor says of itself is its entropy, corrected like the rest, so that no gap passes 1.
    entropy = np.diag(mutual_information(factors, factors, bins))
    ordered = np.sort(np.vstack([np.zeros((1, len(entropy))), information]), axis=0)
    return (ordered[-1] - ordered[-2]) / entropy


def mutual_information(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Mutual information of every latent with every factor, (latent_dim, n_factors) nats.

    Brains are sorted into equally filled bins of either column, equal values into one bin, so any
    increasing function of a column changes nothing (nor a decreasing one, where ``bins`` divides
    the number of brains). Counting gives unrelated columns about (bins − 1)² / 2n nats too much:
    0.13 with 8 bins and 200 brains. Every entropy is therefore raised by (occupied bins − 1) / 2n
    (Miller 1955), which leaves 0.02. Parameters and errors are `mutual_information_gap`'s.
    """
    codes, factors = checked_rows(codes, "codes"), checked_rows(factors, "factors")
    _check_paired(codes, factors)
    _check_vary(factors, "")
    n = len(codes)
    if bins != int(bins) or bins < 2:
        raise ValueError(f"bins={bins} must be a whole number, at least 2")
    if n < BRAINS_PER_CELL * bins**2:
        raise ValueError(
            f"{n} brains are too few for {bins} bins; give at least {BRAINS_PER_CELL * bins**2} "
            "brains, or fewer bins"
        )

    def in_bins(values):
        """1 in each value's bin and 0 elsewhere, (n, columns, bins)."""
        # Equal values share their mean rank, so a column of one value is in one bin.
        share = (rankdata(values, axis=0) - 0.5) / n
        return np.eye(int(bins))[np.floor(share * bins).astype(int)]

    def entropy(counts, axis):
        return entr(counts / n).sum(axis=axis) + ((counts > 0).sum(axis=axis) - 1) / (2 * n)

    table = np.tensordot(in_bins(codes), in_bins(factors), axes=(0, 0))
    of_latent, of_factor = entropy(table.sum(axis=3), 1), entropy(table.sum(axis=1), 2)
    return np.maximum(of_latent + of_factor - entropy(table, (1, 3)), 0)


class DCI(NamedTuple):
    """What random forests that predict factors from the code say of it.

    Attributes
    ----------
    disentanglement : float
        0 to 1; 1: each latent serves one factor.
    completeness : float
        0 to 1; 1: each factor is served by one latent.
    informativeness : float
        An error, in standard deviations of the factors: 0 is best, 1 is guessing the mean.
    importance : ndarray, shape (latent_dim, n_factors)
        How much each latent matters to each factor; columns sum to 1.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray


def dci(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
    seed: int = 0,
) -> DCI:
    """Disentanglement, completeness and informativeness (Eastwood, Williams 2018).

    A random forest a factor predicts it from all latents; how much each latent lowered the
    squared error is its importance, of which every forest has 1 to share out. The informativeness
    is of the test brains, the rest of the training brains. Latents are standardised: one that
    barely moves counts like any other, and `active_latents` says which to leave out.

    A forest that predicts badly shares its importance out all the same, among all latents. So
    noise lowers the first two scores even where each latent serves one factor (latents that
    correlate 0.9 with theirs, of 9 factors: about 0.76): compare codes of similar informativeness.
    Two factors mixed in two latents still score 1 − log 2 / log n_factors, for they are told from
    all the others.

    Parameters
    ----------
    codes_train, factors_train, codes_test, factors_test
        As for `linear_recovery`, with at least 20 training brains.
    seed : int
        Of the forests.
    """
    codes_train, factors_train, codes_test, factors_test = _checked_sets(
        codes_train, factors_train, codes_test, factors_test
    )
    # A tree's resample holds 63% of the brains, and a split needs two leaves.
    if len(codes_train) < 4 * LEAF:
        raise ValueError(
            f"{len(codes_train)} training brains are too few for forests; give at least {4 * LEAF}"
        )
    # Trees take differences below 1e-7 for none, in a latent as in a factor.
    codes_train, codes_test = _standardised(codes_train, codes_test)
    factors_train, factors_test = _standardised(factors_train, factors_test)
    importance = np.empty((codes_train.shape[1], factors_train.shape[1]))
    errors = np.empty(factors_train.shape[1])
    for j, (known, wanted) in enumerate(zip(factors_train.T, factors_test.T, strict=True)):
        # Every split chooses among all latents: of a few drawn at random the one that serves the
        # factor may be missing, and the others get its importance.
        forest = RandomForestRegressor(
            TREES, min_samples_leaf=LEAF, max_features=None, random_state=seed, n_jobs=1
        ).fit(codes_train, known)
        importance[:, j] = forest.feature_importances_
        residual = wanted - forest.predict(codes_test)
        errors[j] = np.sqrt(np.square(residual).mean()) / wanted.std()
    return DCI(*importance_scores(importance), float(errors.mean()), importance)


def importance_scores(importance: np.ndarray) -> tuple[float, float]:
    """Disentanglement and completeness from importances (latent_dim, n_factors), 0 or more.

    The first is 1 − the entropy, base n_factors, of what a latent's importance is divided among;
    averaged over latents, each weighted by its share of all importance, so that a dead latent does
    not count. The second is 1 − the entropy, base latent_dim, of the latents a factor is divided
    among; averaged over factors alike, as in the authors' code (the paper gives it by factor); a
    factor to which no latent matters counts 0. Among one there is nothing to divide: 1.
    """
    of_latent, total = importance.sum(axis=1), importance.sum()
    disentanglement = _concentration(importance) @ of_latent / total if total > 0 else 0.0
    return float(disentanglement), float(_concentration(importance.T).mean())


def _concentration(importance) -> np.ndarray:
    """1 − entropy of each row's shares: 1 all in one column, 0 even or nothing to share."""
    n_columns = importance.shape[1]
    total = importance.sum(axis=1)
    shares = importance / np.where(total > 0, total, 1)[:, None]
    entropy = entr(shares).sum(axis=1) / (math.log(n_columns) if n_columns > 1 else 1)
    return np.where(total > 0, 1 - entropy, 0)


def _standardised(train, test) -> tuple[np.ndarray, np.ndarray]:
    """Both by the training brains' mean and deviation; 0 where a column does not vary."""
    centre, scale = train.mean(axis=0), np.where(_vary(train), train.std(axis=0), np.inf)
    return (train - centre) / scale, (test - centre) / scale


def _vary(values) -> np.ndarray:
    """Which columns are more than one number and its rounding."""
    return values.std(axis=0) > 1e-9 * np.abs(values).max(axis=0)


def _checked_sets(codes_train, factors_train, codes_test, factors_test) -> list[np.ndarray]:
    """Codes and factors of two sets of brains that fit one another, or a ValueError."""
    names = ("codes_train", "factors_train", "codes_test", "factors_test")
    sets = (codes_train, factors_train, codes_test, factors_test)
    sets = [checked_rows(values, name) for values, name in zip(sets, names, strict=True)]
    for part, codes, factors in (("train", *sets[:2]), ("test", *sets[2:])):
        _check_paired(codes, factors, f"_{part}")
    for name, train, test in (("codes", *sets[::2]), ("factors", *sets[1::2])):
        if train.shape[1] != test.shape[1]:
            raise ValueError(
                f"{name}_train {train.shape} and {name}_test {test.shape} must have equal columns"
            )
    _check_vary(sets[1], "training ")
    _check_vary(sets[3], "test ")
    return sets


def _check_paired(codes, factors, part="") -> None:
    if len(codes) != len(factors):
        raise ValueError(
            f"codes{part} {codes.shape} and factors{part} {factors.shape} must have one row a brain"
        )


def _check_vary(factors, part) -> None:
    constant = np.flatnonzero(~_vary(factors))
    if constant.size:
        raise ValueError(
            f"factor columns {constant.tolist()} (from 0) do not vary over the {part}brains; leave "
            "them out or give more brains"
        )
