"""Where a curve bends: the knee by its distance to the chord, and what the seeds say of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

SHAPES = {"convex falling": 1, "concave rising": -1}
STRAIGHT = 0.05  # of the curve's range: nearer its chord than that, a curve has no knee
CONSTANT = 1e-9  # of the largest value: a range below it is rounding
LEVEL = 0.05  # largest p_straight of a knee
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Knee:
    """A knee over the points of a grid, with its bootstrap distribution over seeds.

    ``at`` is the knee of the mean over seeds, NaN if there is none beyond what noise makes of a
    straight line, and ``distance`` from the curve to its chord there, as a share of the curve's
    range. ``p_straight`` is how often the mean of as many seeds of a straight line is at least as
    far from its chord. Of the resamples, ``shares`` (n_points,) have their knee at each of the
    ``points``, ``no_knee`` have none, and ``interval`` holds 95 % of their knees; all NaN where not
    known. ``n_seeds`` are the fewest at a point that has any.
    """

    points: np.ndarray
    at: float
    distance: float
    p_straight: float
    shares: np.ndarray
    no_knee: float
    interval: tuple[float, float]
    n_seeds: int


def knee_over_seeds(
    points: Sequence[float],
    values: np.ndarray,
    *,
    x: np.ndarray | None = None,
    shape: str = "convex falling",
) -> Knee:
    """Where a curve's mean over seeds bends, if beyond a straight line; and resamples of them.

    A curve bends where it is farthest from the straight line between its ends (Satopää et al.
    2011: the core of Kneedle, without its smoothing and its threshold by sensitivity). It does not
    if it keeps within 5 % of its range of that chord, is no better at its farthest point than at
    its beginning, is constant, or has fewer than three points.

    A straight line with noise bends somewhere too. The null is the chord through the ends of the
    mean curve, with the noise of the seeds: each point's residuals from its own mean, times √(n/(n
    − 1)), drawn anew and averaged. There is a knee if at most 5 % of such curves are as far from
    their own chords, in units of the curve: not of its range, which noise has too. From few seeds
    p comes out too small: of straight lines with normal noise, six points of three seeds, about
    10 % pass, not 5 %. With one seed the noise is not known, and every bend is a knee. For the
    shares, each point's seeds are drawn anew; with n seeds their spread is too small by √((n −
    1)/n).

    Parameters
    ----------
    points, values : sequence of float, and ndarray, shape (n_points, n_seeds)
        The grid's values, each once, in any order; NaN where a fit failed.
    x : ndarray, shape (n_points, n_seeds), optional
        Where each fit lies on the other axis, if that was measured too, such as its rate.
    shape : {"convex falling", "concave rising"}
        A loss that comes to a plateau, its knee below the chord, or a score that does.
    """
    points, values = np.asarray(points, dtype=np.float64), np.asarray(values, dtype=np.float64)
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
    if shape not in SHAPES:
        raise ValueError(f"shape={shape!r} is unknown; {' and '.join(SHAPES)} have a knee")
    sign, n_seeds = SHAPES[shape], _fewest(fitted)
    mean = np.stack([_seed_means(x, fitted), _seed_means(values, fitted)])
    (index,), (distance,), (farthest,) = _farthest(*mean[:, None], sign)
    p_straight, found = float("nan"), None
    if n_seeds > 1 and np.isfinite(distance):
        rng = np.random.default_rng(0)
        found = _farthest(*_resampled(np.stack([x, values]), rng), sign)[0]
        straight = _straight(mean, np.stack([x, values]), rng)
        rounding = CONSTANT * np.nanmax(np.abs(mean[1]))
        as_far = _farthest(*straight, sign)[2] >= farthest - rounding
        p_straight = float((1 + as_far.sum()) / (1 + RESAMPLES))
    at = float(points[index]) if index >= 0 and not p_straight > LEVEL else float("nan")
    return Knee(points, at, float(distance), p_straight, *_spread(points, found), n_seeds)


def model_knees(rows: pd.DataFrame, shape: str = "convex falling") -> dict[str, Knee]:
    """Each model's knee over L, of rows ``model``, ``latent_dim``, ``seed`` and ``value``."""
    curves = {
        name: of.pivot(index="latent_dim", columns="seed", values="value")
        for name, of in rows.groupby("model", sort=False)
    }
    return {name: knee_over_seeds(of.index, of, shape=shape) for name, of in curves.items()}


def choose_point(
    betas: Sequence[float], latent_dims: Sequence[int], rate: np.ndarray, distortion: np.ndarray
) -> tuple[Knee, Knee]:
    """L and β by two knees, one after the other; nothing is left to the eye.

    L is at the knee, over L, of the least D + R that any β reaches: of the bound on the evidence (β
    = 1), which is one quantity for every β and charges for latents. β is at the knee of the
    rate–distortion curve at that L, whose slope dD/dR is −β (Alemi et al. 2018). Shares and
    intervals are of the whole rule: every resample redraws the seeds of every point and takes its
    own least bound, its own L, and β of that L's curve.

    Parameters
    ----------
    betas, latent_dims : sequence of number
    rate, distortion : ndarray, shape (n_betas, n_dims, n_seeds)
        R and D of *validation* brains, nats per image; NaN where a fit failed.
    """
    rate, distortion = np.asarray(rate, np.float64), np.asarray(distortion, np.float64)
    wanted = (len(betas), len(latent_dims))
    if rate.ndim != 3 or rate.shape[:2] != wanted or rate.shape != distortion.shape:
        raise ValueError(
            f"rate is {rate.shape} and distortion {distortion.shape}; both must be "
            f"({wanted[0]}, {wanted[1]}, n_seeds)"
        )
    bound = distortion + rate
    fitted = np.isfinite(bound)
    means = _seed_means(bound, fitted)
    best = np.where(np.isnan(means), np.inf, means).argmin(axis=0)
    in_dims = knee_over_seeds(latent_dims, bound[best, np.arange(len(latent_dims))])
    there = (np.asarray(latent_dims) == in_dims.at)[:, None]
    at_knee = np.where(there, distortion, np.nan)[:, there.argmax()]
    in_betas = knee_over_seeds(betas, at_knee, x=rate[:, there.argmax()])
    n_seeds, found = _fewest(fitted), (None, None)
    if n_seeds > 1:
        found = _both_resampled(in_dims.points, rate, distortion)
    names = ("shares", "no_knee", "interval")
    return tuple(
        replace(one, n_seeds=n_seeds, **dict(zip(names, _spread(one.points, of), strict=True)))
        for one, of in zip((in_dims, in_betas), found, strict=True)
    )


def _fewest(fitted) -> int:
    """Fewest seeds at a point that has any."""
    counts = fitted.sum(axis=-1)
    return int(counts[counts > 0].min()) if counts.any() else 0


def _farthest(x, y, sign):
    """Of curves (n_curves, n): index of the knee (−1: none), distance to the chord, and unscaled.

    A point that is not finite in one curve is left out of all.
    """
    kept = np.flatnonzero((np.isfinite(x) & np.isfinite(y)).all(axis=0))
    if len(kept) < 3:
        return np.full(len(x), -1), *np.full((2, len(x)), np.nan)
    order = np.argsort(x[:, kept], axis=1, kind="stable")
    x, y = (np.take_along_axis(a[:, kept], order, axis=1) for a in (x, y))
    ranges = np.ptp(x, axis=1), np.ptp(y, axis=1)
    largest = np.abs(x).max(axis=1), np.abs(y).max(axis=1)
    constant = np.any([r <= CONSTANT * m for r, m in zip(ranges, largest, strict=True)], axis=0)
    across, up = (np.where(constant, 1, r) for r in ranges)
    chord = y[:, :1] + (y[:, -1:] - y[:, :1]) * (x - x[:, :1]) / across[:, None]
    below = np.where(constant[:, None], 0, sign * (chord - y))
    at = below.argmax(axis=1)
    unscaled = np.maximum(below.max(axis=1), 0)
    gained = sign * (y[:, 0] - y[np.arange(len(y)), at]) > 0
    bends = (unscaled / up >= STRAIGHT) & gained & ~constant
    index = kept[order[np.arange(len(y)), at]]
    return np.where(bends, index, -1), unscaled / up, unscaled


def _resampled(fits, rng):
    """Means (n_axes, RESAMPLES, n_points) of every point's redrawn seeds; NaN without a fit."""
    means = np.full((len(fits), RESAMPLES, fits.shape[1]), np.nan)
    for point in range(fits.shape[1]):
        there = np.flatnonzero(np.isfinite(fits[:, point]).all(axis=0))
        if there.size:
            drawn = rng.choice(there, (RESAMPLES, there.size))
            means[:, :, point] = fits[:, point, drawn].mean(axis=-1)
    return means


def _straight(mean, fits, rng):
    """Means (n_axes, RESAMPLES, n_points) as if the curve were its own chord, with its noise."""
    x, y = mean
    counts = np.isfinite(fits[1]).sum(axis=1)
    residuals = (fits - mean[:, :, None]) * np.sqrt(counts / np.maximum(counts - 1, 1))[:, None]
    there = np.flatnonzero(counts)
    ends = there[[x[there].argmin(), x[there].argmax()]]
    line = np.stack([x, np.interp(x, x[ends], y[ends])])
    return line[:, None] + _resampled(residuals, rng)


def _both_resampled(latent_dims, rate, distortion):
    """Indices of L and of β that the whole rule finds in every resample; −1 where none."""
    fits = np.stack([rate, distortion]).reshape(2, -1, rate.shape[2])
    means = _resampled(fits, np.random.default_rng(0))
    means = means.reshape(2, RESAMPLES, *rate.shape[:2])
    bound = np.where(np.isnan(means[0]), np.inf, means.sum(axis=0)).min(axis=1)
    dims = _farthest(np.broadcast_to(latent_dims, bound.shape), bound, 1)[0]
    betas = np.full(RESAMPLES, -1)
    for column in np.unique(dims[dims >= 0]):
        here = dims == column
        betas[here] = _farthest(*means[..., column][:, here], 1)[0]
    return dims, betas


def _spread(points, found):
    """Shares of the resamples with their knee at each point and at none, and its interval."""
    if found is None:
        return np.full(len(points), np.nan), float("nan"), (float("nan"),) * 2
    bent, interval = points[found[found >= 0]], (float("nan"),) * 2
    shares = np.bincount(found[found >= 0], minlength=len(points)) / len(found)
    if bent.size:
        interval = tuple(np.quantile(bent, [0.025, 0.975], method="inverted_cdf").tolist())
    return shares, float((found < 0).mean()), interval


def _seed_means(values, fitted):
    """Mean over the last axis of what is fitted; NaN where nothing is."""
    total = np.where(fitted, values, 0).sum(axis=-1)
    return np.divide(total, fitted.sum(-1), out=np.full(total.shape, np.nan), where=fitted.any(-1))
