"""How far brains lie from what is usual of reference brains, by each measure and as a whole."""

from functools import cached_property

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import KFold

from brainvae_core.metrics.checks import checked_rows

FEWEST = 12  # reference brains, and one more a covariate; calibrated from about 100 on
SHAPE_SPREAD = 0.5  # of ε and log δ before the data: few brains leave the norm near a Gaussian
COLUMNS = 512  # measures fitted at once
STEPS = 100
SETTLED = 1e-3  # standard deviations
KFOLD = KFold(10, shuffle=True, random_state=0)
SINGULAR = 1e-9


class Norm:
    """What is usual of measures of reference brains, and how far other brains are from it.

    A measure is regressed on the covariates. Its residuals are warped to a Gaussian by the
    sinh-arcsinh transform (Jones, Pewsey 2009), which learns skewness and heavy tails, and is
    monotone and finite beyond the data too. What is estimated from few brains is uncertain:
    deviations are Student's t, put on a Gaussian's scale (Wallace 1959), and smaller for covariates
    unlike the reference's.

    Parameters
    ----------
    values : array, shape (n_brains, n_measures)
        Of ordinary reference brains, at least 12 and one more a covariate. What a model gives, such
        as its error, is taken of brains that it was not fitted to.
    covariates : array, shape (n_brains, n_covariates), optional
        Numbers, such as the age; 0 or 1 for each level of a factor but the first.
    """

    def __init__(self, values, covariates=None):
        values, covariates = _rows(values, covariates)
        n, self.n_measures = values.shape
        self.n_covariates = covariates.shape[1]
        if n < FEWEST + self.n_covariates:
            raise ValueError(
                f"{n} reference brains are too few for a norm with {self.n_covariates} covariates; "
                f"give at least {FEWEST + self.n_covariates}"
            )
        self._centre, self._scale = covariates.mean(axis=0), covariates.std(axis=0)
        if (same := self._scale <= SINGULAR * np.abs(covariates).max(axis=0)).any():
            raise ValueError(
                f"covariate {np.argmax(same)} is the same in all reference brains; leave it out"
            )
        terms = self._terms(covariates)
        basis, triangle = np.linalg.qr(terms)
        if (sums := np.abs(np.diag(triangle)) < SINGULAR * np.sqrt(n)).any():
            raise ValueError(
                f"covariate {np.argmax(sums) - 1} is a sum of the ones before it; leave it out"
            )
        self._unmixed = np.linalg.inv(triangle)
        self._coefficients = self._unmixed @ (basis.T @ values)
        rest = values - terms @ self._coefficients
        self._free = n - terms.shape[1]
        self._spread = np.sqrt(np.square(rest).sum(axis=0) / self._free)
        if (same := self._spread <= SINGULAR * np.abs(values).max(axis=0)).any():
            raise ValueError(
                f"measures {np.flatnonzero(same)[:5].tolist()} do not vary over the reference "
                "brains beyond their covariates; leave them out"
            )
        leverage = np.square(basis).sum(axis=1, keepdims=True)
        if (alone := leverage[:, 0] > 1 - SINGULAR).any():
            raise ValueError(
                f"reference brain {np.argmax(alone)} is the only one with its level of a "
                "covariate; leave it out"
            )
        rest /= self._spread * np.sqrt(1 - leverage)
        self._warp, self._rest = _fitted_warp(rest), rest

    def z(self, values, covariates=None) -> np.ndarray:
        """Deviations of brains (n, n_measures) from the norm in standard deviations, same shape.

        Standard normal for further ordinary brains: one in 20 passes ±1.96. Those of the reference
        itself come out a little nearer than further ones.
        """
        values, covariates = _rows(values, covariates, 1)
        for what, found, wanted in (
            ("measures", values.shape[1], self.n_measures),
            ("covariates", covariates.shape[1], self.n_covariates),
        ):
            if found != wanted:
                raise ValueError(
                    f"the brains have {found} {what}, the norm {wanted}; give the same ones"
                )
        terms = self._terms(covariates)
        leverage = np.square(terms @ self._unmixed).sum(axis=1, keepdims=True)
        rest = values - terms @ self._coefficients
        return self._gaussian(rest / (self._spread * np.sqrt(1 + leverage)), self._warp)

    def whole(self, values, covariates=None) -> np.ndarray:
        """One z for all measures of a brain together, (n,): high where it is unlike the others.

        The Mahalanobis distance of its deviations, with a shrunk covariance (Ledoit, Wolf 2004),
        against the distances of reference brains that the covariance was not fitted to.
        """
        covariance, distances = self._together
        return distances.z(_log_distance(covariance, self.z(values, covariates)))[:, 0]

    def largest(self, values, covariates=None) -> np.ndarray:
        """One z for the measure of a brain that deviates most, (n,): for what is in one place.

        Its ``|z|`` against the largest of every reference brain, so that many measures do not make
        many brains unusual.
        """
        return self._extremes.z(_log_largest(self.z(values, covariates)))[:, 0]

    @cached_property
    def _reference(self):
        """Deviations of the reference's own brains, each as if the norm had not seen it."""
        free, z = self._free, np.empty_like(self._rest)
        alone = self._rest * np.sqrt((free - 1) / (free - np.square(self._rest)).clip(min=SINGULAR))
        for fitted, left in KFOLD.split(z):
            warp = _fitted_warp(self._rest[fitted], self._warp)
            z[left] = self._gaussian(alone[left], warp)
        return z

    @cached_property
    def _together(self):
        z, held_out = self._reference, np.empty((len(self._reference), 1))
        shrunk = LedoitWolf(assume_centered=True)
        for fitted, left in KFOLD.split(z):
            held_out[left] = _log_distance(shrunk.fit(z[fitted]), z[left])
        return shrunk.fit(z), Norm(held_out)

    @cached_property
    def _extremes(self):
        return Norm(_log_largest(self._reference))

    def _terms(self, covariates):
        scaled = (covariates - self._centre) / self._scale
        return np.column_stack([np.ones(len(covariates)), scaled])

    def _gaussian(self, rest, warp):
        """Standardised residuals, warped, as deviations on a Gaussian's scale."""
        z, free = _warped(rest, warp)[0], self._free
        size = np.sqrt(free * np.log1p(np.square(z) / free)) * (8 * free + 1) / (8 * free + 3)
        return np.copysign(size, z)


def _rows(values, covariates, least=2):
    """Values and covariates, of which there may be none, brain by brain."""
    values = checked_rows(values, "values", least)
    if covariates is None:
        return values, np.empty((len(values), 0))
    covariates = checked_rows(covariates, "covariates", least)
    if len(covariates) != len(values):
        raise ValueError(f"{len(values)} brains have {len(covariates)} rows of covariates")
    return values, covariates


def _log_distance(covariance, z):
    return np.log(covariance.mahalanobis(z) + np.finfo(float).tiny)[:, None]


def _log_largest(z):
    return np.log(np.abs(z).max(axis=1, keepdims=True) + np.finfo(float).tiny)


# ---- the warp: z = sinh(δ asinh((x − m) / s) − ε) ----


def _warped(x, warp):
    """z of x (n, k) by a warp (4, k) of m, log s, ε and log δ, and (x − m) / s, δ asinh of it."""
    centre, log_scale, skew, log_tail = warp
    y = (x - centre) * np.exp(-log_scale)
    stretched = np.exp(log_tail) * np.arcsinh(y)
    return np.sinh(np.clip(stretched - skew, -50, 50)), y, stretched


def _fitted_warp(x, start=None):
    """The most likely warp (4, k) of each column of x (n, k), ε and log δ near 0 beforehand."""
    start = np.zeros((4, x.shape[1])) if start is None else start
    blocks = [slice(first, first + COLUMNS) for first in range(0, x.shape[1], COLUMNS)]
    return np.concatenate([_ascended(x[:, some], start[:, some]) for some in blocks], axis=1)


def _ascended(x, start):
    """Damped scoring of all columns at once: a step that makes one less likely is not taken."""
    n, k = x.shape
    warp, damping = start.copy(), np.full(k, 0.01)
    prior = np.array([[0], [0], [1], [1]]) / (n * SHAPE_SPREAD**2)
    value, slope, curve = _likelihood(x, warp, prior)
    moving = np.arange(k)
    for _ in range(STEPS):
        damped = curve[moving] + damping[moving, None, None] * np.eye(4)
        step = np.linalg.solve(damped, slope[:, moving].T[:, :, None])[:, :, 0].T
        found = _likelihood(x[:, moving], warp[:, moving] + step, prior)
        better = found[0] >= value[moving]
        taken = moving[better]
        warp[:, taken] += step[:, better]
        value[taken], slope[:, taken], curve[taken] = (
            found[0][better],
            found[1][:, better],
            found[2][better],
        )
        damping[moving] *= np.where(better, 0.3, 5)
        moving = moving[np.abs(step).max(axis=0) > SETTLED]
        if not moving.size:
            break
    return warp


def _likelihood(x, warp, prior):
    """Mean log density of each column (k,), its slope (4, k) and scores' products (k, 4, 4)."""
    z, y, stretched = _warped(x, warp)
    steep, root = np.sqrt(1 + z * z), np.sqrt(1 + y * y)
    pull = z * z * z / steep
    by_y = -pull * np.exp(warp[3]) / root - y / (1 + y * y)
    scores = np.stack([-by_y * np.exp(-warp[1]), -y * by_y - 1, pull, 1 - pull * stretched])
    density = warp[3] - warp[1] + np.log(steep / root) - z * z / 2
    value = density.mean(axis=0) - (prior * warp**2).sum(axis=0) / 2
    slope = scores.mean(axis=1) - prior * warp
    by_column = np.ascontiguousarray(scores.transpose(2, 0, 1))
    products = by_column @ by_column.transpose(0, 2, 1) / len(x)
    return value, slope, products + prior.T[:, :, None] * np.eye(4)
