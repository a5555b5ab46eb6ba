"""Residuals of linear models in every order, or many: statistics of many measures at once.

Residuals of the model without the tested columns are permuted (Freedman, Lane 1983).
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import special

NOTHING = 1e-9  # a share of a measure's size that is rounding
TINY = 1e-14  # a square that is rounding


def basis_of(matrix, tested) -> tuple[np.ndarray, float]:
    """Orthonormal columns of a design, the tested ones last: what they add to all others.

    And the length of what the last one adds.
    """
    columns = np.hstack([matrix[:, ~tested], matrix[:, tested]])
    lengths = np.linalg.norm(columns, axis=0)
    basis, corner = np.linalg.qr(columns / lengths)
    return basis * np.sign(np.diag(corner)), abs(corner[-1, -1]) * lengths[-1]


def residuals_of(basis, n_tested, values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the columns that are not tested leave of the measures that vary beyond them.

    In units of its size (varying,), which is given too, with the measures that vary (k,) bool.
    """
    rest = basis[:, :-n_tested]
    residuals = values - rest @ (rest.T @ values)
    size = np.sqrt(np.square(residuals).mean(axis=0))
    varies = size > NOTHING * np.abs(values).max(axis=0)
    return residuals[:, varies] / size[varies], size[varies], varies


def orders_of(matrix, n, seed) -> np.ndarray:
    """Rows of the design that the brains are moved to, (n + 1, brains), as they are first.

    Every distinct order where there are no more.
    """
    rows = np.arange(len(matrix))
    _, kinds, counts = np.unique(matrix, axis=0, return_inverse=True, return_counts=True)
    logs = special.gammaln(len(matrix) + 1) - special.gammaln(counts + 1).sum()
    if logs > math.log(n + 1.5):
        orders = np.tile(rows, (n + 1, 1))
        orders[1:] = np.random.default_rng(seed).permuted(orders[1:], axis=1)
        return orders
    places = np.argsort(kinds, kind="stable")
    orders = np.empty((round(math.exp(logs)), len(matrix)), dtype=int)
    for order, arrangement in zip(orders, _arrangements(counts.tolist()), strict=True):
        order[np.argsort(arrangement, kind="stable")] = places
    own = (orders == rows).all(axis=1).argmax()
    orders[[0, own]] = orders[[own, 0]]
    return orders


def _arrangements(counts):
    """Every order of so many of each kind."""
    if not any(counts):
        yield ()
    for kind, left in enumerate(counts):
        if left:
            for after in _arrangements([*counts[:kind], left - 1, *counts[kind + 1 :]]):
                yield kind, *after


def weights_of(basis) -> np.ndarray:
    """What a brain's squared residual adds to HC2; nothing where the model fits it by itself."""
    free = 1 - np.square(basis).sum(axis=1)
    return np.divide(basis[:, -1] ** 2, free, out=np.zeros(len(basis)), where=free > NOTHING)


def freedom_of(basis, sides) -> Callable:
    """What makes degrees of freedom of HC2 from each side's part of it, (sides, …).

    Bell and McCaffrey's, with each side's own spread; of two groups alone they are Welch's.
    """
    maker = np.eye(len(basis)) - basis @ basis.T
    form = maker @ (weights_of(basis)[:, np.newaxis] * maker)
    shares, traces = sides @ np.square(basis[:, -1]), sides @ np.diag(form)
    blocks = sides @ np.square(form) @ sides.T / np.outer(shares, shares)

    def freedom(parts):
        parts = np.maximum(parts, TINY)
        return np.square(np.tensordot(traces / shares, parts, 1)) / sum(
            one * sum(factor * other for factor, other in zip(row, parts, strict=True))
            for row, one in zip(blocks, parts, strict=True)
        )

    return freedom


def statistics_of(basis, n_tested, orders, sides=None) -> Callable:
    """What makes statistics of residuals (brains, k) in every order, (orders, k).

    F of the tested columns; or, with the sides (sides, brains) of one tested column that each have
    their own spread, the square of its t by HC2 on the scale of a normal.
    """
    left_over = len(basis) - basis.shape[1]
    if sides is not None:
        freedom, weights = freedom_of(basis, sides), sides * weights_of(basis)
    # Residuals sum to 0 in every order: the intercept has no share of them.
    basis = basis[:, np.ptp(basis, axis=0) > NOTHING]
    moved = [column[orders] for column in basis.T]
    if sides is not None:  # what multiplies out to each side's part of HC2
        squared = [side[orders] for side in weights]
        weighted = [[(side * column)[orders] for column in basis.T] for side in weights]
        tables = [basis.T @ (side[:, np.newaxis] * basis) for side in weights]

    def statistics(values):
        squares, seen = np.square(values), [column @ values for column in moved]
        if sides is None:
            above = sum(np.square(share) for share in seen[-n_tested:])
            left = squares.sum(axis=0) - sum(np.square(share) for share in seen)
            return above / np.maximum(left, TINY) * left_over / n_tested
        parts = np.empty((len(sides), *seen[0].shape))
        for part, square, columns, table in zip(parts, squared, weighted, tables, strict=True):
            part[:] = square @ squares
            for row, column, share in zip(table, columns, seen, strict=True):
                cross = sum(one * other for one, other in zip(row, seen, strict=True))
                part += share * (cross - 2 * (column @ values))
        # A t on the scale of a normal (Wallace 1959): its degrees of freedom are every order's own.
        told = freedom(parts)
        t_squared = np.square(seen[-1]) / np.maximum(parts.sum(axis=0), TINY)
        return told * np.log1p(t_squared / told) * np.square((8 * told + 1) / (8 * told + 3))

    return statistics
