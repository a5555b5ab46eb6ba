"""Results as long tables: a score a row, and their means with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from brainvae_core.metrics.intervals import (
    UNBOUNDED,
    Estimate,
    difference,
    estimate,
    from_jackknife,
    jackknife_values,
)


def scores_table(
    scores: Mapping[str, np.ndarray],
    *,
    axes: Mapping[str, Sequence] | None = None,
    brains: Sequence | None = None,
) -> pd.DataFrame:
    """Scores of a fit as rows of a long table, with the columns score, axes, brain and value.

    Parameters
    ----------
    scores : mapping of str to ndarray, shape (…, n_brains)
    axes : mapping of str to sequence, optional
        Names and labels of the axes before that of brains, such as ``{"strength": [0.5, 1]}``.
    brains : sequence, optional
        What tells brains apart; by default they are counted from 0.
    """
    tables = []
    for name, found in scores.items():
        values = np.asarray(found, dtype=np.float64)
        n_brains = values.shape[-1] if values.ndim else 0
        each = {**(axes or {}), "brain": range(n_brains) if brains is None else brains}
        each = {axis: list(labels) for axis, labels in each.items()}
        if not values.size or values.shape != tuple(map(len, each.values())):
            wanted = ", ".join(f"{len(labels)} {axis}s" for axis, labels in each.items())
            raise ValueError(f"{name} is {values.shape}; give one of every of {wanted}")
        index = pd.MultiIndex.from_product(each.values(), names=each)
        table = pd.Series(values.ravel(), index, name="value").reset_index()
        table.insert(0, "score", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def jackknife_table(
    statistic: Callable[..., float], samples: Mapping[str, Sequence[np.ndarray]]
) -> pd.DataFrame:
    """A statistic of a fit by score, as rows that `summarise` and `compare` give intervals.

    ``statistic`` is as for `jackknife`; ``samples`` are the arrays, each (n_brains, …), by score.
    Columns: ``score``; ``left_out``, 0 for all brains and else which of 20 groups is missing;
    ``n_brains``; ``value``.
    """
    tables = []
    for name, arrays in samples.items():
        values = jackknife_values(statistic, arrays)
        about = {"score": name, "left_out": range(len(values)), "n_brains": len(arrays[0])}
        tables.append(pd.DataFrame(about | {"value": values}))
    return pd.concat(tables, ignore_index=True)


def summarise(
    table: pd.DataFrame, by: str | Sequence[str] = (), *, bounds=UNBOUNDED
) -> pd.DataFrame:
    """Mean of every group of a long table, with `estimate`'s interval over brains and seeds.

    A group a row, in the order in which they first appear: the columns of ``by``, ``value``,
    ``low``, ``high``, ``n_brains``, ``n_seeds``. Fits whose values are all NaN failed and are left
    out; a group without any other is a row of NaN with 0 seeds. Two rows of one seed and brain, and
    fits of unequal brains, are refused.

    Parameters
    ----------
    table : DataFrame
        A score a row: ``brain``, ``value``, ``seed`` (without it, all rows are of one fit), and
        whatever ``by`` names. Brains are resampled in the order in which they first appear. Rows of
        a `jackknife_table` get `jackknife`'s interval.
    by : str or sequence of str
        Columns that tell groups apart, such as ``["model", "latent_dim"]``.
    bounds : (low, high)
        What values cannot pass.
    """
    rows = []
    for key, group in _groups(table, by):
        where = _named(key)
        values, _ = _fits(group, where)
        found = _interval(where, group, values, bounds=bounds) if len(values) else NOTHING
        rows.append(key | found._asdict())
    return pd.DataFrame(rows)


def compare(
    table: pd.DataFrame, a, b, by: str | Sequence[str] = (), *, of: str = "model"
) -> pd.DataFrame:
    """Mean of a − b on the same brains in every group, with `difference`'s interval.

    Positive where a is larger, in the unit of ``value``. A group a row, with the columns of
    `summarise` and ``"a − b"`` in the column ``of``. Brains are paired by their label, fits
    are not. Groups that lack either are left out; a b without a label of ``by`` (NaN) stands in
    every group.

    Parameters
    ----------
    table, by
        As for `summarise`.
    a, b, of
        Two values of the column ``of``: what is compared.
    """
    by = [by] if isinstance(by, str) else list(by)
    _check_columns(table, [of, *by])
    for name in (a, b):
        if not (table[of] == name).any():
            known = ", ".join(map(str, table[of].unique()))
            raise ValueError(f"no {name!r} in the column {of!r}; there are {known}")
    rows, others = [], table[table[of] == b]
    for key, group in _groups(table[table[of] == a], by):
        where = _named({of: f"{a} − {b}"} | key)
        here = [(others[name] == label) | others[name].isna() for name, label in key.items()]
        beside = others[np.logical_and.reduce(here)] if here else others
        (of_a, brains), (of_b, same) = (_fits(found, where) for found in (group, beside))
        if not len(of_a) or not len(of_b):
            continue
        order = same.get_indexer(brains)
        if len(same) != len(brains) or (order < 0).any():
            raise ValueError(
                f"{where}: {a} has {len(brains)} brains and {b} {len(same)}, not all of them the "
                "same; a difference is of the same brains"
            )
        found = _interval(where, group, of_a, of_b.take(order, axis=1))
        rows.append({of: f"{a} − {b}"} | key | found._asdict())
    return pd.DataFrame(rows, columns=[of, *by, *Estimate._fields])


def summarise_samples(
    statistic: Callable[..., float],
    samples: Iterable[tuple[Mapping, Sequence[np.ndarray]]],
    by: str | Sequence[str] = (),
    *,
    bounds=UNBOUNDED,
) -> pd.DataFrame:
    """As `summarise`, of what is no mean over brains: by `jackknife`, a group's fits together.

    Parameters
    ----------
    statistic, bounds
        As for `jackknife`.
    samples : iterable of (labels, arrays)
        Of every fit, its labels by column, and the arrays that the statistic is computed from.
    by : str or sequence of str
        Labels that tell groups apart.
    """
    tables = [
        jackknife_table(statistic, {"": arrays}).assign(**{**labels, "seed": fit})
        for fit, (labels, arrays) in enumerate(samples)
    ]
    return summarise(pd.concat(tables, ignore_index=True), by, bounds=bounds)


def named(table: pd.DataFrame, name: str) -> dict[str, Estimate]:
    """Rows of a summary as estimates, such as by ``"CW-SSIM, {model}, L = {latent_dim}"``."""
    rows = table.to_dict("records")
    found = {name.format(**row): Estimate(*(row[f] for f in Estimate._fields)) for row in rows}
    if len(found) < len(rows):
        raise ValueError(f"{name!r} gives two rows one name; name what tells them apart")
    return found


def counted_fits(table: pd.DataFrame) -> str:
    """How many fits of each VAE a table holds, such as "3 to 5 fits of each VAE" where L differ.

    Models with a single fit, as PCA has, are not counted beside others.
    """
    of = [name for name in ("model", "beta", "latent_dim") if name in table]
    counts = table.groupby(of, dropna=False)["seed"].nunique()
    counts = sorted(counts[counts > 1]) or [1]
    text = f"{counts[0]} to {counts[-1]}" if counts[0] < counts[-1] else str(counts[0])
    return f"{text} fit{'s' * (counts[-1] > 1)} of each VAE"


LEFT_OUT = "left_out"
NOTHING = Estimate(np.nan, np.nan, np.nan, 0, 0)


def _groups(table, by):
    """Each group's labels, by column, and its rows."""
    by = [by] if isinstance(by, str) else list(by)
    _check_columns(table, [*by, LEFT_OUT if LEFT_OUT in table else "brain", "value"])
    if table.empty:
        raise ValueError("the table has no rows")
    if not by:
        yield {}, table
        return
    for key, group in table.groupby(by, sort=False, observed=True, dropna=False):
        yield dict(zip(by, key, strict=True)), group


def _fits(rows: pd.DataFrame, where: str) -> tuple[np.ndarray, pd.Index]:
    """Values (n_seeds, n_brains) of the fits that did not fail, and the brains' labels."""
    unit = "brain"
    if LEFT_OUT in rows:  # all brains first
        unit, rows = LEFT_OUT, rows.sort_values(LEFT_OUT, kind="stable")
    seeds = rows["seed"] if "seed" in rows else pd.Series(0, rows.index)
    fitted = rows["value"].notna().groupby(seeds, dropna=False).transform("any")
    rows, seeds = rows[fitted], seeds[fitted]
    (seed, seeds), (brain, brains) = (
        pd.factorize(labels, use_na_sentinel=False) for labels in (seeds, rows[unit])
    )
    if len(set(zip(seed, brain, strict=True))) < len(rows):
        raise ValueError(
            f"{where}: some rows are of one seed and brain; name in `by` what tells them apart"
        )
    values = np.full((len(seeds), len(brains)), np.nan)
    values[seed, brain] = rows["value"]
    if np.isnan(values).any():
        fewest = (~np.isnan(values)).sum(axis=1).min()
        raise ValueError(
            f"{where}: a fit has values of {fewest} of {len(brains)} brains; leave out that fit, "
            "or the brains that it lacks"
        )
    return values, pd.Index(brains)


def _interval(where, group, values, less=None, bounds=UNBOUNDED) -> Estimate:
    """An interval, or the reason why there is none with the group's name before it."""
    try:
        if LEFT_OUT in group:
            return from_jackknife(values, int(group["n_brains"].iloc[0]), less, bounds)
        return estimate(values, bounds) if less is None else difference(values, less)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _named(key) -> str:
    return ", ".join(f"{name}={value}" for name, value in key.items()) or "the table"


def _check_columns(table, names) -> None:
    if missing := [name for name in names if name not in table]:
        raise ValueError(
            f"the table has no column {missing[0]!r}; it has {', '.join(map(str, table))}"
        )
