"""Results as long tables: a score a row, and their means with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from brainvae_core.metrics.artefacts import ArtefactRemoval
from brainvae_core.metrics.intervals import UNBOUNDED, Estimate, difference, estimate, jackknife


def scores_table(
    scores, *, seeds: Sequence | None = None, brains: Sequence | None = None, **labels
):
    """Scores of the fits of one model as rows of a long table.

    Parameters
    ----------
    scores : ndarray, shape (n_brains,) or (n_seeds, n_brains), or a mapping of score to such
        A mapping's keys become the column ``score``. A fit that failed is a row of NaN.
    seeds, brains : sequence, optional
        What tells fits and brains apart; by default they are counted from 0.
    **labels
        Columns that are alike in every row, such as ``model="β-VAE", beta=3, latent_dim=8``.

    Returns
    -------
    DataFrame
        Columns: the labels, ``score`` where there are several, ``seed``, ``brain``, ``value``.

    Raises
    ------
    ValueError
        The scores have another shape, or not one row a seed and one column a brain.
    """
    if isinstance(scores, Mapping):
        tables = [
            scores_table(found, seeds=seeds, brains=brains, **labels, score=name)
            for name, found in scores.items()
        ]
        return pd.concat(tables, ignore_index=True)
    values = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    n_seeds, n_brains = values.shape if values.ndim == 2 else (0, 0)
    seeds = list(range(n_seeds) if seeds is None else seeds)
    brains = list(range(n_brains) if brains is None else brains)
    if not values.size or values.shape != (len(seeds), len(brains)):
        raise ValueError(
            f"scores are {np.shape(scores)}; give (n_seeds, n_brains), one row for each of "
            f"{len(seeds)} seeds and one column for each of {len(brains)} brains"
        )
    index = pd.MultiIndex.from_product([seeds, brains], names=["seed", "brain"])
    table = pd.Series(values.ravel(), index, name="value").reset_index()
    for place, (name, label) in enumerate(labels.items()):
        table.insert(place, name, label)
    return table


def summarise(
    table: pd.DataFrame, by: str | Sequence[str] = (), *, level: float = 0.95, bounds=UNBOUNDED
) -> pd.DataFrame:
    """Mean of every group of a long table, with `estimate`'s interval over brains and seeds.

    Parameters
    ----------
    table : DataFrame
        A score a row: ``brain``, ``value``, ``seed`` (without it, all rows are of one fit), and
        whatever ``by`` names. Brains are resampled in the order in which they first appear.
    by : str or sequence of str
        Columns that tell groups apart, such as ``["model", "latent_dim"]``.
    level : float
        Share of intervals that are to hold the truth.
    bounds : (low, high), or mapping of score to such
        What values cannot pass; a mapping is looked up by ``score``, which ``by`` then names.

    Returns
    -------
    DataFrame
        A group a row, in the order in which they first appear: the columns of ``by``, ``value``,
        ``low``, ``high``, ``n_brains``, ``n_seeds``. Fits whose values are all NaN failed and are
        left out; a group without any other is a row of NaN with 0 seeds. What is no mean over
        brains joins such a table as a row of its own: ``labels | jackknife(…)._asdict()``.

    Raises
    ------
    ValueError
        A column is missing, two rows of a group are of one seed and brain, a fit lacks a brain
        that another fit of its group has, or there are fewer than two brains.
    """
    rows = []
    for key, group in _groups(table, by):
        where = _named(key)
        limits = bounds
        if isinstance(bounds, Mapping):
            if key.get("score") not in bounds:
                raise ValueError(
                    f"there are bounds of {', '.join(bounds)}, and none for {where}; name 'score' "
                    "in `by` and bound every score"
                )
            limits = bounds[key["score"]]
        values, _ = _fits(group, where)
        found = _in_group(where, estimate, values, level, limits) if len(values) else NOTHING
        rows.append(key | found._asdict())
    return pd.DataFrame(rows)


def compare(
    table: pd.DataFrame,
    a,
    b,
    by: str | Sequence[str] = (),
    *,
    of: str = "model",
    level: float = 0.95,
) -> pd.DataFrame:
    """Mean of a − b on the same brains in every group, with `difference`'s interval.

    Brains are paired by their label, fits are not.

    Parameters
    ----------
    table, by, level
        As for `summarise`.
    a, b
        Two values of the column ``of``.
    of : str
        What is compared.

    Returns
    -------
    DataFrame
        As of `summarise`, with ``"a − b"`` in the column ``of``. Groups that lack either are left
        out.

    Raises
    ------
    ValueError
        As for `summarise`; the column has no a or no b, or they are of other brains.
    """
    by = [by] if isinstance(by, str) else list(by)
    _check_columns(table, [of, *by])
    for name in (a, b):
        if not (table[of] == name).any():
            known = ", ".join(map(str, table[of].unique()))
            raise ValueError(f"no {name!r} in the column {of!r}; there are {known}")
    rows = []
    for key, group in _groups(table, by):
        where = _named({of: f"{a} − {b}"} | key)
        (of_a, brains), (of_b, others) = (_fits(group[group[of] == x], where) for x in (a, b))
        if not len(of_a) or not len(of_b):
            continue
        order = others.get_indexer(brains)
        if len(others) != len(brains) or (order < 0).any():
            raise ValueError(
                f"{where}: {a} has {len(brains)} brains and {b} {len(others)}, not all of them the "
                "same; a difference is of the same brains"
            )
        found = _in_group(where, difference, of_a, of_b.take(order, axis=1), level)
        rows.append({of: f"{a} − {b}"} | key | found._asdict())
    return pd.DataFrame(rows, columns=[of, *by, *Estimate._fields])


SETS = ("reconstructions", "prior samples", "aggregate posterior")
NOTHING = Estimate(np.nan, np.nan, np.nan, 0, 0)


def _groups(table, by):
    """Each group's labels, by column, and its rows."""
    by = [by] if isinstance(by, str) else list(by)
    _check_columns(table, [*by, "brain", "value"])
    if table.empty:
        raise ValueError("the table has no rows")
    if not by:
        yield {}, table
        return
    for key, group in table.groupby(by, sort=False, observed=True, dropna=False):
        yield dict(zip(by, key, strict=True)), group


def _fits(rows: pd.DataFrame, where: str) -> tuple[np.ndarray, pd.Index]:
    """Values (n_seeds, n_brains) of the fits that did not fail, and the brains' labels."""
    seeds = rows["seed"] if "seed" in rows else pd.Series(0, rows.index)
    fitted = rows["value"].notna().groupby(seeds, dropna=False).transform("any")
    rows, seeds = rows[fitted], seeds[fitted]
    (seed, seeds), (brain, brains) = (
        pd.factorize(labels, use_na_sentinel=False) for labels in (seeds, rows["brain"])
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


def _in_group(where, interval, *arguments) -> Estimate:
    """An interval, or the reason why there is none with the group's name before it."""
    try:
        return interval(*arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _named(key) -> str:
    return ", ".join(f"{name}={value}" for name, value in key.items()) or "the table"


def _check_columns(table, names) -> None:
    if missing := [name for name in names if name not in table]:
        raise ValueError(
            f"the table has no column {missing[0]!r}; it has {', '.join(map(str, table))}"
        )


# Tables as nested mappings, which chapters and figures still take; the long table replaces them.


def in_each(table: Mapping, function: Callable) -> dict:
    """A function of every entry of a table, which may hold tables in turn."""
    return {
        key: in_each(entry, function) if isinstance(entry, Mapping) else function(entry)
        for key, entry in table.items()
    }


def estimates(scores: Mapping, bounds=UNBOUNDED) -> dict:
    """`estimate` of every entry of a table, which may hold tables in turn."""
    return in_each(scores, lambda found: estimate(found, bounds=bounds))


def jackknives(statistic: Callable[..., float], fits: Mapping, bounds=UNBOUNDED) -> dict:
    """`jackknife` of every entry of a table, which may hold tables in turn.

    Parameters
    ----------
    statistic, fits, bounds
        As for `jackknife`.
    """
    return in_each(fits, lambda found: jackknife(statistic, found, bounds=bounds))


def differences(scores: Mapping, pairs: Iterable[tuple]) -> dict[str, Estimate]:
    """`difference` of pairs of entries of a table, by ``"a − b"``; of those that are there."""
    return {
        f"{a} − {b}": difference(scores[a], scores[b])
        for a, b in pairs
        if a in scores and b in scores
    }


def picked(table: Mapping, name: str) -> dict:
    """One score, a key or an attribute, of every fit in a table of sequences of fits."""
    return in_each(
        table, lambda fits: [f[name] if isinstance(f, Mapping) else getattr(f, name) for f in fits]
    )


def beside(real: np.ndarray, generated: Mapping) -> dict[str, dict]:
    """Real scores with the generated ones of every fit, by kind: tables that `jackknife` takes."""

    def of_kind(table, kind):
        found = {}
        for key, entry in table.items():
            if isinstance(entry, Mapping):
                found[key] = of_kind(entry, kind)
            elif kind in entry[0]:
                found[key] = [(real, fit[kind]) for fit in entry]
        return found

    return {kind: of_kind(generated, kind) for kind in SETS}


def removal_by_share(fits: Mapping[str, Sequence[ArtefactRemoval]]) -> dict[str, dict]:
    """Several models' removals, regrouped: by share, by model, (n_fits, …, n_brains)."""
    return {
        what: {name: np.stack([getattr(r, what) for r in found]) for name, found in fits.items()}
        for what in ArtefactRemoval._fields
    }


def painted_back(fits: Mapping[object, Sequence[ArtefactRemoval]], kinds: Sequence[str]) -> dict:
    """How much of each artefact comes back, mean over strengths: (n_fits, n) by kind and model.

    Of a grid its lines (``pattern``) are told from the darkening of the whole brain, which is most
    of ``reproduced``.
    """
    shares, found = removal_by_share(fits), {}
    for k, kind in enumerate(kinds):
        grid = {"grid's lines": "pattern", "grid's darkening": "reproduced"}
        for part, what in (grid if kind == "grid" else {kind: "reproduced"}).items():
            found[part] = {name: of[:, k].mean(axis=1) for name, of in shares[what].items()}
    return found


def graded_table(
    values: Mapping[str, np.ndarray], graded, what: str = "", bounds=UNBOUNDED
) -> dict[str, dict[str, dict[float, Estimate]]]:
    """Estimates by title ("Leak: kept", or "Leak" without ``what``), model and strength.

    Parameters
    ----------
    values, graded, what, bounds
        ``values`` are (n_fits, n_kinds, n_strengths, n_brains) of every model; ``graded`` has
        ``kinds`` and ``strengths``.
    """
    return {
        kind.capitalize() + (f": {what}" if what else ""): {
            name: {
                strength: estimate(found[:, k, s], bounds=bounds)
                for s, strength in enumerate(graded.strengths)
            }
            for name, found in values.items()
        }
        for k, kind in enumerate(graded.kinds)
    }
