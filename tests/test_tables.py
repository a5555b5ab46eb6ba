"""Long tables: the same numbers as arrays give, whatever else the table holds."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from brainvae_core.metrics import (
    Estimate,
    compare,
    counted_fits,
    difference,
    estimate,
    jackknife,
    jackknife_table,
    named,
    scores_table,
    summarise,
    summarise_samples,
)
from brainvae_core.metrics.intervals import from_jackknife, jackknife_values

FIELDS = list(Estimate._fields)
RECORDED = {
    "VAE": (0.598, 0.4755137936633258, 0.7225623656199314, 5, 2),
    "PCA": (0.546, 0.4478053794663234, 0.6568648941509252, 5, 1),
    "VAE − PCA": (0.052, -0.027015883462385183, 0.13534028405247636, 5, 2),
}


def scores(seed, n_seeds=3, n_brains=12):
    rng = np.random.default_rng(seed)
    return rng.normal(seed, 0.3, (n_seeds, 1)) + rng.normal(0, 1, (n_seeds, n_brains))


def fits(values, brains=None, **labels):
    """Scores of several fits of one model, (n_seeds, n_brains) or of one, as a table."""
    rows = enumerate(np.atleast_2d(values))
    tables = [scores_table({"s": row}, brains=brains).assign(seed=i) for i, row in rows]
    return pd.concat(tables, ignore_index=True).drop(columns="score").assign(**labels)


def study(**arrays):
    """A table of several models, named as the arrays are."""
    return pd.concat([fits(of, model=name) for name, of in arrays.items()], ignore_index=True)


def of_row(row):
    return Estimate(*row[FIELDS])


# ---- from arrays to rows ----


def test_fits_are_counted_at_each_l_and_single_ones_only_where_all_are():
    few, many = (study(VAE=scores(0, n)).assign(latent_dim=n) for n in (3, 5))
    pca = fits(scores(0, 1), model="PCA", latent_dim=3)
    assert counted_fits(pd.concat([few, pca])) == "3 fits of each VAE"
    assert counted_fits(pd.concat([many, few, pca])) == "3 to 5 fits of each VAE"
    assert counted_fits(pca) == "1 fit of each VAE"


def test_every_score_is_a_row():
    values = scores(0, 6, 2).reshape(2, 3, 2)
    axes = {"kind": ["leak", "grid"], "strength": [0.25, 0.5, 1]}
    table = scores_table({"kept": values, "lost": -values}, axes=axes, brains="ab")
    assert list(table) == ["score", "kind", "strength", "brain", "value"] and len(table) == 24
    for (i, j, k), value in np.ndenumerate(values):
        at = (table.kind == axes["kind"][i]) & (table.strength == axes["strength"][j])
        both = table[at & (table.brain == "ab"[k])]
        assert both.score.tolist() == ["kept", "lost"] and both.value.tolist() == [value, -value]
    uneven = scores_table({"PSNR": [0.1, 0.2, 0.3], "EV": [1.0]})
    assert uneven.brain.tolist() == [0, 1, 2, 0] and uneven.score.tolist() == ["PSNR"] * 3 + ["EV"]


# ---- means ----


def test_summaries_of_recorded_scores():
    """Intervals as they were before there were tables."""
    values = np.array([[0.61, 0.55, 0.72, 0.48, 0.66], [0.58, 0.57, 0.7, 0.5, 0.61]])
    other = np.array([0.5, 0.52, 0.66, 0.45, 0.6])
    table = study(VAE=values, PCA=other)
    (vae, pca) = (of_row(row) for _, row in summarise(table, by="model").iterrows())
    assert vae == pytest.approx(RECORDED["VAE"], rel=1e-12)
    assert pca == pytest.approx(RECORDED["PCA"], rel=1e-12)
    (less,) = (of_row(row) for _, row in compare(table, "VAE", "PCA").iterrows())
    assert less == pytest.approx(RECORDED["VAE − PCA"], rel=1e-12)


def test_groups_keep_their_order_and_their_labels():
    tables = [
        fits(scores(i), model=model, beta=beta, score=score)
        for i, (model, beta, score) in enumerate(
            [("VAE", 3, "PSNR"), ("PCA", np.nan, "PSNR"), ("VAE", 1, "EV")]
        )
    ]
    table = pd.concat(tables)
    found = summarise(table, by=["model", "beta", "score"])
    assert found.model.tolist() == ["VAE", "PCA", "VAE"] and found.beta.isna().tolist()[1]
    for i, (_, row) in enumerate(found.iterrows()):
        assert of_row(row) == estimate(scores(i))
    table["score"] = table["score"].astype("category")
    assert summarise(table[table.score == "EV"], by="score").score.tolist() == ["EV"]


def test_a_table_without_groups_or_seeds_is_one_fit():
    table = fits(scores(0, 1)).drop(columns="seed")
    (row,) = (row for _, row in summarise(table).iterrows())
    assert of_row(row) == estimate(scores(0, 1)) and row.n_seeds == 1
    assert of_row(summarise(table.assign(seed=np.nan)).iloc[0]) == estimate(scores(0, 1))


def test_fits_that_failed_are_left_out_and_may_leave_nothing():
    values, failed = scores(0, 3), scores(1, 3)
    values[1], failed[:] = np.nan, np.nan
    table = study(VAE=values, other=failed)
    # A failed fit may as well be a single row that names no brain.
    alone = pd.DataFrame({"model": ["VAE"], "seed": [9], "brain": [None], "value": [np.nan]})
    found = summarise(pd.concat([table, alone]), by="model")
    assert of_row(found.iloc[0]) == estimate(values[[0, 2]])
    assert found.iloc[1][["value", "low", "high"]].isna().all()
    assert found.iloc[1][["n_brains", "n_seeds"]].tolist() == [0, 0]
    assert compare(table, "VAE", "other").empty


# ---- what is no mean, and what is read ----


def spans(*arrays):
    return max(map(np.ptp, arrays))


MADE = {"VAE": range(3), "PCA": range(3, 4)}


def test_a_statistic_of_a_groups_fits_has_their_jackknife():
    pairs = [(scores(i, 1)[0], scores(i + 9, 1)[0]) for i in range(5)]
    models = ["VAE", "PCA", "VAE", "VAE", "PCA"]
    samples = [({"model": m}, f) for m, f in zip(models, pairs, strict=True)]
    found = summarise_samples(spans, samples, "model", bounds=(0, 3))
    assert list(found) == ["model", *FIELDS] and found.model.tolist() == ["VAE", "PCA"]
    for name, (_, row) in zip(["VAE", "PCA"], found.iterrows(), strict=True):
        of_model = [f for m, f in zip(models, pairs, strict=True) if m == name]
        assert of_row(row) == jackknife(spans, of_model, (0, 3))


def test_rows_of_what_was_left_out_have_the_jackknifes_interval():
    pairs = {m: [(scores(i, 1)[0], scores(i + 9, 1)[0]) for i in of] for m, of in MADE.items()}
    tables = [
        jackknife_table(spans, {"span": pair}).assign(model=m, seed=i)
        for m, of in pairs.items()
        for i, pair in enumerate(of)
    ]
    table = pd.concat(tables).sample(frac=1, random_state=0)  # in any order
    found = summarise(table, by=["model", "score"], bounds=(0, 9)).set_index("model")
    for name, of in pairs.items():
        assert of_row(found.loc[name]) == pytest.approx(jackknife(spans, of, bounds=(0, 9)))
    apart = compare(table, "VAE", "PCA", by="score").iloc[0]
    rows, less = (np.stack([jackknife_values(spans, f) for f in pairs[m]]) for m in MADE)
    assert of_row(apart) == pytest.approx(from_jackknife(rows, 12, less))

    alone = jackknife_table(np.mean, {"mean": [scores(0, 1)[0]]})
    assert set(alone["n_brains"]) == {12} and alone["left_out"].tolist() == list(range(13))


def test_rows_are_named():
    table = summarise(study(VAE=scores(0), PCA=scores(1, 1)), by="model").assign(beta=3)
    found = named(table, "PSNR, {model}, β = {beta:g}")
    assert found == {f"PSNR, {row.model}, β = 3": of_row(row) for _, row in table.iterrows()}


# ---- differences ----


@settings(max_examples=30, deadline=None)
@given(a=st.integers(1, 4), b=st.integers(1, 4), seed=st.integers(0, 999))
def test_a_comparison_is_the_difference_of_the_same_brains(a, b, seed):
    of_a, of_b = scores(seed, a), scores(seed + 1, b)
    order = np.random.default_rng(seed).permutation(12)
    shuffled = fits(of_b[:, order], brains=order, model="b")
    found = compare(pd.concat([study(a=of_a), shuffled]), "a", "b")
    assert list(found) == ["model", *FIELDS] and found.model.tolist() == ["a − b"]
    assert of_row(found.iloc[0]) == difference(of_a, of_b)


def test_comparisons_are_of_every_group_that_has_both():
    tables = [
        fits(scores(i), model=model, latent_dim=n)
        for i, (model, n) in enumerate([("a", 2), ("b", 2), ("a", 4), ("b", 4), ("a", 8)])
    ]
    found = compare(pd.concat(tables), "b", "a", by="latent_dim")
    assert found.latent_dim.tolist() == [2, 4] and found.model.tolist() == ["b − a"] * 2
    assert of_row(found.iloc[1]) == difference(scores(3), scores(2))
    dims = compare(pd.concat(tables), 8, 2, by="model", of="latent_dim")
    assert dims.latent_dim.tolist() == ["8 − 2"] and dims.model.tolist() == ["a"]
    mean_image = fits(scores(9, 1), model="mean image")
    less = compare(pd.concat([*tables, mean_image]), "a", "mean image", by="latent_dim")
    assert less.latent_dim.tolist() == [2, 4, 8]
    assert of_row(less.iloc[2]) == difference(scores(4), scores(9, 1))
    summary = summarise(pd.concat(tables), by=["model", "latent_dim"])
    assert set(found) == set(summary)  # the two stand below one another


# ---- what is refused ----

TABLE = study(VAE=scores(0), PCA=scores(1, 1))
TWICE = pd.concat([TABLE, TABLE])
HOLED = TABLE.drop(index=TABLE.index[4])
OTHERS = pd.concat([study(VAE=scores(0)), fits(scores(1), brains=range(1, 13), model="b")])


def test_what_has_no_answer_is_refused_in_a_line():
    lone, axes = study(VAE=scores(0, 3, 1)), {"kind": "ab"}
    refused(
        [
            (r"^EV is \(2, 4\); give .* 4 brains$", scores_table, {"EV": np.ones((2, 4))}),
            ("2 kinds, 9 brains", lambda: scores_table({"EV": np.ones((3, 9))}, axes=axes)),
            (r"^EV is \(\)", scores_table, {"EV": 1.0}),
            ("^'x' gives two rows one name", named, summarise(TABLE, "model"), "x"),
            ("^model=VAE: scores is .*at least 2 brains", summarise, lone, "model"),
            ("^model=VAE: some rows are of one seed and brain", summarise, TWICE, "model"),
            ("^model=VAE: a fit has values of 11 of 12 brains", summarise, HOLED, "model"),
            ("^the table has no column 'beta'; it has brain, value", summarise, TABLE, "beta"),
            ("^the table has no rows$", summarise, TABLE[:0]),
            ("^no 'NMF' in the column 'model'; there are VAE, PCA$", compare, TABLE, "VAE", "NMF"),
            ("VAE has 12 brains and b 12, not all", compare, OTHERS, "VAE", "b"),
        ]
    )
