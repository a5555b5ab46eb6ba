"""Where a curve bends: the knee by its distance to the chord, and what the seeds say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHAPES = {"convex falling": 1, "concave rising": -1}
STRAIGHT = 0.05  # of the curve's range: nearer its chord than that, a curve has no knee
CONSTANT = 1e-9  # of the largest value: a range below it is rounding


@dataclass(frozen=True, eq=False)
class Knee:
    """A knee over the points of a grid, with its bootstrap distribution over seeds.

    Attributes
    ----------
    points : ndarray, shape (n_points,)
        The grid's values, such as numbers of latents.
    at : float
        The one at the knee of the mean over seeds; NaN if there is no knee.
    distance : float
        From the curve to its chord there, as a share of the curve's range: 0 to 1; NaN with fewer
        than three points.
    shares : ndarray, shape (n_points,)
        Share of the resamples that have their knee at each point; NaN where not known.
    no_knee : float
        Share of the resamples without one. It and ``shares`` add up to 1.
    interval : (float, float)
        Of 95 % of the resamples that have one; both are grid values.
    n_seeds : int
        Fewest at a point that has any; 0 if none has. With 1 the uncertainty is not known.
    """

    points: np.ndarray
    at: float
    distance: float
    shares: np.ndarray
    no_knee: float
    interval: tuple[float, float]
    n_seeds: int

    @property
    def mode(self) -> float:
        """The most frequent knee of the resamples; NaN if it is none, or not known."""
        if not self.shares.max() >= self.no_knee:
            return float("nan")
        return float(self.points[self.shares.argmax()])

    def __str__(self):
        found = f"knee at {self.at:g}" if np.isfinite(self.at) else "no knee"
        if np.isfinite(self.distance):
            found += f", {self.distance:.2f} of the range from the chord"
        else:
            found += ", fewer than three points"
        if np.isnan(self.no_knee):
            return f"{found}; what other seeds would give is not known"
        often = "none" if np.isnan(self.mode) else f"{self.mode:g}"
        found += f"; over {self.n_seeds} seeds most often {often}"
        if np.isfinite(self.interval[0]):
            found += ", 95 % from {:g} to {:g}".format(*self.interval)
        return f"{found}, none in {100 * self.no_knee:.0f} % of resamples"


def knee(
    x: Sequence[float], y: Sequence[float], *, shape: str = "convex falling", log_x: bool = False
) -> tuple[float, float]:
    """Where a curve is farthest from the straight line between its ends.

    The core of Kneedle, without its smoothing and its threshold by sensitivity: both axes are
    divided by the curve's range, so units do not matter. Whether x is on a logarithmic axis does
    matter, and so does the range that was scanned, for the chord ends there. No knee has a curve
    that keeps within 5 % of its range of the chord, one that is no better at its farthest point
    than at its beginning, a constant, or fewer than three points.

    Parameters
    ----------
    x, y : sequence of float, shape (n,)
        In any order. Points that are not finite, such as failed fits, are left out; where that is
        an end, the chord begins at the next point.
    shape : str
        ``"convex falling"``: a loss that comes to a plateau, its knee below the chord;
        ``"concave rising"``: a score that does, its knee above.
    log_x : bool
        Take x on a logarithmic axis.

    Returns
    -------
    x : float
        At the knee, one of those given; NaN if there is none.
    distance : float
        To the chord, along y, as a share of the curve's range: 0 to 1. NaN with fewer than three
        points.

    Raises
    ------
    ValueError
        Lengths differ, ``shape`` is unknown, or an x on the logarithmic axis is not positive.

    References
    ----------
    Satopää, Albrecht, Irwin, Raghavan (2011), ICDCS workshops, "Finding a 'Kneedle' in a haystack".
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x is {x.shape} and y {y.shape}; both must be (n,)")
    index, distance = _farthest(_placed(x, log_x), y, _sign(shape))
    return (float("nan") if index is None else float(x[index])), distance


def knee_over_seeds(
    points: Sequence[float],
    values: np.ndarray,
    *,
    x: np.ndarray | None = None,
    shape: str = "convex falling",
    log_x: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> Knee:
    """`knee` of a curve's mean over seeds, and of bootstrap resamples of them.

    Each point's seeds are drawn anew by themselves: a seed's number says nothing across points.
    With n seeds the spread comes out too small, by √((n − 1)/n) in the mean of a point.

    Parameters
    ----------
    points : sequence of float, shape (n_points,)
        The grid's values, each once.
    values : ndarray, shape (n_points, n_seeds)
        NaN where a fit failed.
    x : ndarray, shape (n_points, n_seeds), optional
        Where each fit lies on the other axis, if that was measured too: the rates of a
        rate–distortion curve. Otherwise it is the point itself.
    shape, log_x
        As for `knee`.
    resamples, seed : int
        How many, and where their random numbers begin.

    Returns
    -------
    Knee

    Raises
    ------
    ValueError
        Shapes do not fit, a point occurs twice, ``x`` and ``values`` lack different fits, or as
        for `knee`.
    """
    points = np.asarray(points, dtype=np.float64)
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or points.shape != values.shape[:1] or not values.size:
        raise ValueError(
            f"points are {points.shape} and values {values.shape}; they must be (n_points,) and "
            "(n_points, n_seeds)"
        )
    if not np.isfinite(points).all() or len(np.unique(points)) < len(points):
        raise ValueError(f"points {points.tolist()} must be finite, each once")
    x = np.broadcast_to(points[:, None], values.shape) if x is None else np.asarray(x, np.float64)
    fitted = np.isfinite(values)
    if x.shape != values.shape or (np.isfinite(x) < fitted).any():
        raise ValueError(f"x is {x.shape}; it must be {values.shape} and finite where values are")
    x, sign = _placed(x, log_x), _sign(shape)
    index, distance = _farthest(_seed_means(x, fitted), _seed_means(values, fitted), sign)
    counts = fitted.sum(axis=1)
    n_seeds = int(counts[counts > 0].min()) if fitted.any() else 0
    shares, no_knee, interval = np.full(len(points), np.nan), float("nan"), (float("nan"),) * 2
    if n_seeds > 1 and np.isfinite(distance):
        found = _resampled(x, values, fitted, sign, resamples, seed)
        shares = np.array([found.count(i) for i in range(len(points))]) / resamples
        no_knee = found.count(None) / resamples
        bent = points[[i for i in found if i is not None]]
        if bent.size:
            interval = tuple(np.quantile(bent, [0.025, 0.975], method="inverted_cdf").tolist())
    at = float("nan") if index is None else float(points[index])
    return Knee(points, at, distance, shares, no_knee, interval, n_seeds)


def choose_point(
    betas: Sequence[float], latent_dims: Sequence[int], rate: np.ndarray, distortion: np.ndarray
) -> tuple[Knee, Knee]:
    """L and β by two knees, one after the other; nothing is left to the eye.

    L is at the knee, over L, of the least D + R that any β reaches: of the bound on the evidence
    (β = 1), which is one quantity for every β where −ELBO_β is not, and which charges for latents
    where distortion does not. β is at the knee of the rate–distortion curve at that L. Along such a
    curve the slope dD/dR is −β, so its knee is where β is nearest the chord's slope: at a smaller
    β one more nat of rate buys less distortion than it does on average over the scanned range, at
    a larger one more. Both knees are relative to the range that was scanned.

    Parameters
    ----------
    betas : sequence of float, n_betas
    latent_dims : sequence of int, n_dims
    rate, distortion : ndarray, shape (n_betas, n_dims, n_seeds)
        R and D of *validation* brains, nats per image; NaN where a fit failed.

    Returns
    -------
    latent_dim, beta : Knee
        That of β is for the chosen L alone, and NaN where L has none.

    Raises
    ------
    ValueError
        Shapes do not fit, or as for `knee_over_seeds`.

    References
    ----------
    Alemi, Poole, Fischer, Dillon, Saurous, Murphy (2018), ICML, "Fixing a broken ELBO".
    """
    rate, distortion = np.asarray(rate, np.float64), np.asarray(distortion, np.float64)
    wanted = (len(betas), len(latent_dims))
    if rate.ndim != 3 or rate.shape[:2] != wanted or rate.shape != distortion.shape:
        raise ValueError(
            f"rate is {rate.shape} and distortion {distortion.shape}; both must be "
            f"({wanted[0]}, {wanted[1]}, n_seeds)"
        )
    bound = distortion + rate
    means = _seed_means(bound, np.isfinite(bound))
    best = np.where(np.isnan(means), np.inf, means).argmin(axis=0)
    in_dims = knee_over_seeds(latent_dims, bound[best, np.arange(len(latent_dims))])
    there = (np.asarray(latent_dims) == in_dims.at)[:, None]
    at_knee = np.where(there, distortion, np.nan)[:, there.argmax()]
    return in_dims, knee_over_seeds(betas, at_knee, x=rate[:, there.argmax()])


def _placed(x, log_x):
    """x as it lies on its axis."""
    if log_x and (x <= 0).any():
        raise ValueError(f"x has {x.min():g}, which has no place on a logarithmic axis")
    return np.log(x) if log_x else x


def _sign(shape):
    if shape not in SHAPES:
        raise ValueError(f"shape={shape!r} is unknown; {' and '.join(SHAPES)} have a knee")
    return SHAPES[shape]


def _farthest(x, y, sign):
    """Index of the knee (None: no knee) and the largest distance to the chord."""
    kept = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    kept = kept[np.argsort(x[kept], kind="stable")]
    if len(kept) < 3:
        return None, float("nan")
    x, y = x[kept], y[kept]
    if any(np.ptp(a) <= CONSTANT * np.abs(a).max() for a in (x, y)):
        return None, 0.0
    chord = y[0] + (y[-1] - y[0]) * (x - x[0]) / np.ptp(x)
    below = sign * (chord - y) / np.ptp(y)
    distance = max(float(below.max()), 0.0)
    bends = distance >= STRAIGHT and sign * (y[0] - y[below.argmax()]) > 0
    return (int(kept[below.argmax()]) if bends else None), distance


def _resampled(x, values, fitted, sign, resamples, seed):
    """The knee's index in every resample."""
    rng = np.random.default_rng(seed)
    means = np.full((2, resamples, len(values)), np.nan)
    for point, there in enumerate(fitted):
        if there.any():
            seeds = rng.choice(np.flatnonzero(there), (resamples, there.sum()))
            means[:, :, point] = x[point, seeds].mean(1), values[point, seeds].mean(1)
    return [_farthest(*curve, sign)[0] for curve in means.swapaxes(0, 1)]


def _seed_means(values, fitted):
    """Mean over the last axis of what is fitted; NaN where nothing is."""
    total = np.where(fitted, values, 0).sum(axis=-1)
    return np.divide(total, fitted.sum(-1), out=np.full(total.shape, np.nan), where=fitted.any(-1))
