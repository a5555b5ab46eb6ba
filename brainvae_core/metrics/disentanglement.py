"""Is each planted factor one latent, and each latent one factor?"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import entr
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestRegressor

from brainvae_core.metrics.checks import checked_rows

# Of two unrelated columns of 200 brains the corrected information is 0.02 nats with 8 bins, 0.06
# with 10 and 0.6 with 20. Of 0.83 nats (a correlation of 0.9) 8 bins lose 0.13 and 5 lose 0.23.
BINS = 8
BRAINS_PER_CELL = 2  # fewer, and the correction no longer makes up for the empty cells
# Twice the trees change no score by more than 0.02. Single-brain leaves split on noise and so give
# importance to every latent; leaves of 10 blur what is read off 200 brains.
TREES = 50
LEAF = 5


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

    disentanglement: float  # 1: each latent serves one factor
    completeness: float  # 1: each factor is served by one latent
    informativeness: float  # an error: 0 is best, 1 is guessing the mean
    importance: np.ndarray  # (latent_dim, n_factors), each column sums to 1


def mutual_information_gap(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
    """By how much the best latent for a factor beats the second best, of the factor's entropy.

    A factor that two latents share has no gap, be it mixed into both or copied. The entropy of a
    continuous factor is that of its bins, so gaps compare only at one number of bins, and noise
    costs more than in a regression: a latent that correlates 0.9 with its factor (R² 0.81) and
    shares it with no other has a gap of 0.34 with 8 bins.

    What bias `mutual_information` leaves is much the same for both latents and mostly cancels.
    The second best is the luckiest of many, though: in that example with 7 unrelated latents
    besides, 200 brains give a gap lower by 0.02 (uncorrected 0.05), 700 brains by 0.00.

    Parameters
    ----------
    codes : ndarray, shape (n, latent_dim)
    factors : ndarray, shape (n, n_factors)
    bins : int
        Equally filled bins a column, see `mutual_information`.

    Returns
    -------
    ndarray of float64, shape (n_factors,)
        From 0 to 1: 1 where one latent orders brains as the factor does and no other latent knows
        of it. Of a single latent the second largest is 0. The published score is the mean.

    Raises
    ------
    ValueError
        As `mutual_information`.

    References
    ----------
    Chen, Li, Grosse, Duvenaud (2018), Isolating sources of disentanglement in variational
    autoencoders, NeurIPS, section 4.
    """
    information = mutual_information(codes, factors, bins)
    # What a factor says of itself is its entropy, corrected like the rest, so that no gap passes 1.
    entropy = np.diag(mutual_information(factors, factors, bins))
    ordered = np.sort(np.vstack([np.zeros((1, len(entropy))), information]), axis=0)
    return (ordered[-1] - ordered[-2]) / entropy


def mutual_information(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Mutual information of every latent with every factor, in nats.

    Brains are sorted into equally filled bins of either column, equal values into one bin, so any
    increasing function of a column changes nothing (nor a decreasing one, where ``bins`` divides
    the number of brains; else a brain or two change bins). A latent that barely moves is
    ranked like any other; `active_latents` says which to leave out.

    Counting gives unrelated columns about (bins − 1)² / 2n nats too much: 0.13 with 8 bins and 200
    brains. Every entropy is therefore raised by (occupied bins − 1) / 2n (Miller, Madow), which
    leaves 0.02.

    Parameters
    ----------
    codes : ndarray, shape (n, latent_dim)
    factors : ndarray, shape (n, n_factors)
    bins : int
        At least 2. More bins lose less of a strong relation and need more brains.

    Returns
    -------
    ndarray of float64, shape (latent_dim, n_factors)
        Not negative; 0 for a latent that does not vary, and at most about log(bins).

    Raises
    ------
    ValueError
        Rows do not match, a number is not finite, there are fewer than two brains a cell of the
        table (2 bins²), or a factor does not vary.

    References
    ----------
    Miller (1955), Note on the bias of information estimates, in Information Theory in Psychology.
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
    bins = int(bins)
    table = np.tensordot(_in_bins(codes, bins), _in_bins(factors, bins), axes=(0, 0))
    of_latent = _entropy(table.sum(axis=3), n, axis=1)
    of_factor = _entropy(table.sum(axis=1), n, axis=2)
    return np.maximum(of_latent + of_factor - _entropy(table, n, axis=(1, 3)), 0)


def dci(
    codes_train: np.ndarray,
    factors_train: np.ndarray,
    codes_test: np.ndarray,
    factors_test: np.ndarray,
    seed: int = 0,
) -> DCI:
    """Disentanglement, completeness and informativeness of a code.

    A random forest a factor predicts it from all latents; how much each latent lowered the
    squared error is its importance, of which every forest has 1 to share out. The informativeness
    is of the test brains, the rest of the training brains. Latents are standardised: one that
    barely moves counts like any other, and `active_latents` says which to leave out.

    A forest that predicts badly shares its importance out all the same, among all latents. So
    noise lowers the first two scores even where each latent serves one factor (latents that
    correlate 0.9 with theirs, of 9 factors: about 0.76), and so does a factor that the code lacks:
    compare codes of similar informativeness. Two factors mixed in two latents still score
    1 − log 2 / log n_factors, for they are told from all the others.

    Parameters
    ----------
    codes_train, codes_test : ndarray, shape (n, latent_dim)
    factors_train, factors_test : ndarray, shape (n, n_factors)
    seed : int
        Of the forests.

    Returns
    -------
    DCI
        Disentanglement and completeness as `importance_scores` has them. Informativeness is as
        published an error, the lower the better: root mean squared error over the factor's
        standard deviation, both of the test brains, averaged over factors. 0 is perfect, 1 is
        guessing the mean, a little more is usual for codes that say nothing.

    Raises
    ------
    ValueError
        Shapes do not match, a number is not finite, there are fewer than 20 training brains, or a
        factor does not vary.

    References
    ----------
    Eastwood, Williams (2018), A framework for the quantitative evaluation of disentangled
    representations, ICLR.
    """
    codes_train = checked_rows(codes_train, "codes_train")
    factors_train = checked_rows(factors_train, "factors_train")
    codes_test = checked_rows(codes_test, "codes_test")
    factors_test = checked_rows(factors_test, "factors_test")
    _check_paired(codes_train, factors_train, "_train")
    _check_paired(codes_test, factors_test, "_test")
    _check_columns(codes_train, codes_test, "codes")
    _check_columns(factors_train, factors_test, "factors")
    _check_vary(factors_train, "training ")
    _check_vary(factors_test, "test ")
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
    """Disentanglement and completeness from how much each latent matters to each factor.

    Parameters
    ----------
    importance : ndarray, shape (latent_dim, n_factors)
        Of any regression, not negative.

    Returns
    -------
    disentanglement : float
        1 − the entropy, base n_factors, of what a latent's importance is divided among; averaged
        over latents, each weighted by its share of all importance, so that a dead latent does not
        count. 1 where there is one factor only: then it says nothing.
    completeness : float
        1 − the entropy, base latent_dim, of the latents a factor is divided among; averaged over
        factors alike, as in the authors' code (the paper gives it by factor). 1 where there is
        one latent only. A factor to which no latent matters counts 0.

    Raises
    ------
    ValueError
        Not a table, or an importance that is negative or not finite.

    References
    ----------
    Eastwood, Williams (2018), ICLR, section 3; https://github.com/cianeastwood/qedr.
    """
    importance = np.asarray(importance, dtype=np.float64)
    if importance.ndim != 2 or not importance.size:
        raise ValueError(f"importance is {importance.shape}; it must be (latent_dim, n_factors)")
    if not (np.isfinite(importance) & (importance >= 0)).all():
        raise ValueError("importance has entries that are negative or not finite")
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


def _in_bins(values, bins) -> np.ndarray:
    """1 in each value's bin and 0 elsewhere, (n, columns, bins)."""
    # Equal values share their mean rank, so a column of one value is in one bin.
    share = (rankdata(values, axis=0) - 0.5) / len(values)
    return np.eye(bins)[np.floor(share * bins).astype(int)]


def _entropy(counts, n, axis) -> np.ndarray:
    """Miller and Madow's entropy of n brains over the cells along an axis or two, in nats."""
    return entr(counts / n).sum(axis=axis) + ((counts > 0).sum(axis=axis) - 1) / (2 * n)


def _standardised(train, test) -> tuple[np.ndarray, np.ndarray]:
    """Both by the training brains' mean and deviation; 0 where a column does not vary."""
    centre, scale = train.mean(axis=0), np.where(_vary(train), train.std(axis=0), np.inf)
    return (train - centre) / scale, (test - centre) / scale


def _vary(values) -> np.ndarray:
    """Which columns are more than one number and its rounding."""
    return values.std(axis=0) > 1e-9 * np.abs(values).max(axis=0)


def _check_paired(codes, factors, part="") -> None:
    if len(codes) != len(factors):
        raise ValueError(
            f"codes{part} {codes.shape} and factors{part} {factors.shape} must have one row a brain"
        )


def _check_columns(train, test, name) -> None:
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"{name}_train {train.shape} and {name}_test {test.shape} must have equal columns"
        )


def _check_vary(factors, part) -> None:
    constant = np.flatnonzero(~_vary(factors))
    if constant.size:
        raise ValueError(
            f"factor columns {constant.tolist()} (from 0) do not vary over the {part}brains; leave "
            "them out or give more brains"
        )
