"""Does the code hold the planted factors, and is each of them one latent?"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import entr
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestRegressor

from brainvae_core.metrics.checks import check_columns, checked_rows

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


def mutual_information_gap(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
    """By how much the best latent for a factor beats the second best (Chen et al. 2018, § 4).

    (n_factors,) shares of the factor's entropy: 1 where one latent orders brains as the factor does
    and no other knows of it, 0 where two share it, be it mixed into both or copied. A latent that
    correlates 0.9 with its factor, alone, has 0.34 with 8 bins; gaps compare at one number only.

    Parameters
    ----------
    codes, factors : ndarray, shape (n, latent_dim) and (n, n_factors)
    bins : int
        Equally filled bins a column, at least 2; two brains a cell of their table (2 bins²).
    """
    information = mutual_information(codes, factors, bins)
    # What a factor says of itself is its entropy, corrected like the rest, so that no gap passes 1.
    entropy = np.diag(mutual_information(factors, factors, bins))
    ordered = np.sort(np.vstack([np.zeros((1, len(entropy))), information]), axis=0)
    return (ordered[-1] - ordered[-2]) / entropy


def mutual_information(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Mutual information of every latent with every factor, (latent_dim, n_factors) nats.

    Brains are sorted into equally filled bins of either column, equal values into one bin. Counting
    gives unrelated columns about (bins − 1)² / 2n nats too much (0.13 of 200 brains), so every
    entropy is raised by (occupied bins − 1) / 2n (Miller 1955), which leaves 0.02.
    """
    codes, factors = checked_rows(codes, "codes"), checked_rows(factors, "factors")
    _check_paired(codes, factors)
    _check_vary(factors)
    n, fewest = len(codes), BRAINS_PER_CELL * bins**2
    if bins != int(bins) or bins < 2:
        raise ValueError(f"bins={bins} must be a whole number, at least 2")
    if n < fewest:
        raise ValueError(f"{n} brains are too few for {bins} bins; give at least {fewest} brains")

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

    ``disentanglement`` and ``completeness`` are 1 where each latent serves one factor and each
    factor is served by one latent, down to 0; ``informativeness`` is an error, in standard
    deviations of the factors; ``importance`` (latent_dim, n_factors) has columns that sum to 1.
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

    A random forest a factor predicts it from all latents, standardised; how much each lowered the
    squared error is its importance. The informativeness is of the test brains. Noise lowers the
    first two scores too (latents that correlate 0.9 with theirs, of 9 factors: about 0.76). Two
    factors mixed in two latents still score 1 − log 2 / log n_factors.

    Parameters
    ----------
    codes_train, factors_train, codes_test, factors_test, seed
        As for `linear_recovery`, with at least 20 training brains; of the forests.
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

    1 − the entropy (base: their number) of the factors a latent is divided among, averaged over
    latents by their importance; the same of the latents a factor is divided among, averaged over
    factors alike, as in the authors' code (the paper gives it by factor). Among one there is
    nothing to divide: 1.
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
