"""Two groups of a lab's brains: they differ where they were planted to differ, and only there."""

import dataclasses
import itertools
import os

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from scipy.stats import binom

from brainvae_core.cohorts import (
    EFFECTS,
    comparable_brains,
    displaced,
    drawn_atlas,
    planted_difference,
    simulate,
    simulate_groups,
)
from brainvae_core.cohorts.groups import OF_GROUPS, POPULATION
from brainvae_core.cohorts.simulated import ANATOMICAL, INJECTED
from brainvae_core.fields import region_brightness
from brainvae_core.metrics import (
    design_of,
    difference_kind,
    group_differences,
    section_changes,
)
from brainvae_core.metrics.designs import usable_brains

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
SHAPE = (40, 56)
ATLAS = drawn_atlas().resampled(SHAPE)
each_simulator = pytest.mark.parametrize("simulator", OF_GROUPS)


def made(n_a=30, n_b=25, effect="none", size=0.0, **options):
    return simulate_groups(n_a, n_b, effect, size, **{"atlas": ATLAS, "seed": 2} | options)


def made_like(table, effect="none", size=0.0, *, seed=2, artefact_share=0.15):
    """As `made`, of brains that are like the rows of a lab's table, which they have as metadata."""
    knockout, factor = (table["group"] == "KO").to_numpy(), EFFECTS[effect].factor

    def draw(n, rng):
        metadata, factors = ANATOMICAL.draw(max(POPULATION, 40 * n), rng)
        rows = matching(metadata, table, rng)
        names = pd.Index([f"lab-{i:04d}" for i in range(n)], name="brain")
        metadata, factors = (each.iloc[rows].set_axis(names) for each in (metadata, factors))
        if "injection_structure" in table:  # where a leak lies
            given, own = table["injection_structure"].set_axis(names), "injection_structure"
            metadata[own] = given.where(given.isin(INJECTED), metadata[own])
        if factor is not None:
            factors[factor] = (factors[factor] + size * knockout).clip(-3, 3)
        return metadata, factors

    lab = dataclasses.replace(ANATOMICAL, name="a lab's table", draw=draw)
    found = lab.cohort(len(table), ATLAS, None, artefact_share, [seed, 2])
    recorded = table.set_axis(found.metadata.index)
    unknown = ["sex", "age_days", "strain", "injection_structure", "split"]
    truth = found.metadata.drop(columns=unknown, errors="ignore")
    return found._like(metadata=pd.concat([recorded, truth], axis=1))


def matching(population, table, rng):
    """For each row of a table one brain of the population that is like it, nobody twice."""
    free, rows = np.ones(len(population), dtype=bool), []
    age = population["age_days"].to_numpy()
    for _, row in table.iterrows():
        fits = free.copy()
        for column in ("sex", "strain"):
            recorded = str(row.get(column)).split("(")[0]  # as in FVB.CD1(ICR)
            same = (population[column] == recorded).to_numpy()
            fits &= same | ~same.any()  # what the population has not can be any brain
        able = np.flatnonzero(fits)
        wanted = pd.to_numeric(row.get("age_days"), errors="coerce")
        near = wanted is not None and np.isfinite(wanted)
        pick = able[np.abs(age[able] - wanted).argmin()] if near else rng.choice(able)
        free[pick] = False
        rows.append(pick)
    return np.array(rows)


def is_knockout(cohort):
    return (cohort.metadata["group"] == "KO").to_numpy()


def correlation(one, other):
    inside = ATLAS.brain_mask
    return np.corrcoef(one[inside], other[inside])[0, 1]


OWN = [(effect, "anatomical") for effect in EFFECTS if EFFECTS[effect].factor]
BORROWED = [("thickness", "freeform"), ("brightness HPF", "freeform")]


@pytest.mark.parametrize(("effect", "simulator"), OWN + BORROWED)
def test_an_effect_changes_the_knockouts_by_its_factor_alone(effect, simulator):
    factor = EFFECTS[effect].factor
    before, after = (made(effect=effect, size=s, simulator=simulator) for s in (0, -0.8))
    knockout = is_knockout(after)
    assert np.array_equal(knockout, is_knockout(before)) and knockout.sum() == 25
    assert np.array_equal(after.clean[~knockout], before.clean[~knockout])
    wanted = before.factors.copy()
    wanted[factor] = (wanted[factor] - np.float32(0.8) * knockout).clip(-3, 3)
    pd.testing.assert_frame_equal(after.factors, wanted, atol=1e-6)
    assert 0.6 < after.factors.loc[~knockout, factor].std() < 1.4
    change = (after.clean - before.clean)[knockout].mean(axis=0)
    planted = planted_difference(effect, -0.8, ATLAS, simulator)
    assert correlation(change, planted) > 0.9
    assert (change * planted).sum() / (planted**2).sum() == pytest.approx(1, abs=0.2)
    # Artefacts do not depend on it.
    assert after.metadata.equals(before.metadata)


@each_simulator
def test_no_effect_is_none_and_damage_is_of_knockouts_alone(simulator):
    effects = {"none": 0, "damage": 0.5}
    null, damaged = (made(40, 20, *of, simulator=simulator) for of in effects.items())
    assert not any(planted_difference(*of, ATLAS, simulator).any() for of in effects.items())
    assert np.array_equal(null.clean, damaged.clean) and null.factors.equals(damaged.factors)
    knockout, more = is_knockout(null), damaged.metadata["artefact"] != "none"
    before = null.metadata["artefact"] != "none"
    assert before.sum() == 9 and more.sum() == 9 + 10 and not (more & ~before)[~knockout].any()
    assert np.array_equal(damaged.artefact_masks.any(axis=(1, 2)), more)
    changed = np.abs(damaged.images - damaged.clean) > 0.02
    assert np.array_equal(changed, damaged.artefact_masks)
    own = null.metadata.columns[:1].tolist() + ["sex", "strain"]
    assert null.metadata[own].equals(damaged.metadata[own])


# ---- no difference, from the sections on ----


def model_of(brains, covariates):
    """Brains that can be compared, and their design, without covariates that are all the same."""
    usable, _ = usable_brains(brains, "group", covariates)
    varying = [name for name in covariates if brains.loc[usable, name].nunique() > 1]
    return usable, design_of(brains[usable], "group", varying)


def real_tables(folder):
    """12 wild types and 12 injected brains with a Cre line, of the sexes and strains that occur."""
    table = pd.read_csv(folder / "allen_api/connectivity_experiments_2024.csv")
    table = table.rename(columns={"gender": "sex"}).dropna(subset=["sex", "strain"])
    table["group"] = np.where(table["transgenic-line"].isna(), "WT", "KO")
    for seed in itertools.count():
        drawn = table.groupby("group").sample(12, random_state=seed)[["group", "sex", "strain"]]
        try:
            model_of(drawn, ["sex", "strain"])
        except ValueError as refusal:  # no lab can tell these groups from a strain
            assert "says the same as" in str(refusal)
            continue
        yield drawn


@pytest.fixture(scope="module")
def about():
    """A reference, its mean section, and the regions' names and masks."""
    reference, names = simulate(200, ATLAS, seed=0), ATLAS.regions(0.01)
    return reference, reference.split("train").images.mean(axis=0), names, ATLAS.roi_masks(names)


@pytest.mark.parametrize(("where", "n"), [("any lab", 100), ("real table", 25)])
@pytest.mark.slow
def test_cohorts_without_a_difference_raise_as_many_alarms_as_told(about, where, n, request):
    """Sections of 12 + 12 made comparable: in regions and of a kind; groups alone, and adjusted."""
    n = 1000 if NIGHTLY else n  # 25 real tables, so that all takes 40 s
    models, tables = {"alone": [], "adjusted": ["sex", "age_days"]}, [None] * n
    if where == "real table":  # whose groups differ by sex and strain, unless adjusted
        models = {"adjusted": ["sex", "strain"]}
        tables = itertools.islice(real_tables(request.getfixturevalue("real_data")), n)
    reference, mean, names, masks = about
    plane = displaced(mean[None], ATLAS, "ap_position", 1.0)[0] - mean
    regions = dict(zip(names, masks, strict=True))
    alarms = {(model, what): 0 for model in models for what in ("regions", "kind")}
    for seed, table in enumerate(tables):
        cohort = made(12, 12, seed=seed) if table is None else made_like(table, seed=seed)
        lab = comparable_brains(cohort.images, cohort.metadata, reference)
        by_region = region_brightness(lab.images, masks).T
        on = mean, ATLAS.brain_mask, regions, ATLAS.pixel_um, plane
        changes = section_changes(lab.images, *on)
        for model, covariates in models.items():
            usable, design = model_of(lab.metadata, covariates)
            asked = {"n_permutations": 99, "seed": seed}
            found = group_differences(by_region[usable], design, **asked)
            told = difference_kind(changes[usable], design, **asked)
            alarms[model, "regions"] += found["p_family"].min() <= 0.05
            alarms[model, "kind"] += told.kind != "no difference"
    print(f"{where}: false alarms of {n}: {alarms}")
    low, high = binom.interval(0.99, n, 0.05)
    assert all(low <= count <= high for count in alarms.values())


@pytest.mark.slow
def test_what_is_planted_on_real_tables_is_found_in_its_place_and_its_size_is_covered(
    about, real_data
):
    """A brighter hippocampus in 12 of 24 brains of the sexes and strains that really occur."""
    n, planted = 200 if NIGHTLY else 20, planted_difference("brightness HPF", 2.0, ATLAS)
    reference, mean, names, masks = about
    inside, hippocampus = ATLAS.brain_mask, np.isin(names, ["CA", "DG"])
    # Brains are brought to one brightness: what is planted in a part is taken from all.
    planted = planted - mean * planted[inside].mean() / mean[inside].mean()
    wanted = np.array([planted[mask].mean() for mask in masks])
    found = {(): [], ("sex", "strain"): []}
    for seed, table in enumerate(itertools.islice(real_tables(real_data), n)):
        cohort = made_like(table, "brightness HPF", 2.0, seed=seed)
        lab = comparable_brains(cohort.images, cohort.metadata, reference)
        by_region = region_brightness(lab.images, masks).T
        for covariates, rows in found.items():
            usable, design = model_of(lab.metadata, covariates)
            told = group_differences(by_region[usable], design, n_permutations=99, seed=seed)
            clear, clearest = told["p_family"].min() <= 0.05, int(told["p"].argmin())
            covers = ((told["low"] <= wanted) & (wanted <= told["high"])).mean()
            rows.append([clear, clear and hippocampus[clearest], covers])
    alone, adjusted = (np.mean(rows, axis=0) for rows in found.values())
    assert alone[0] >= 0.9 and alone[1] >= 0.8
    assert adjusted[0] < alone[0]  # most wild types are of one strain: adjusting for it costs
    assert adjusted[1] >= 0.7 * adjusted[0] > 0
    assert 0.92 < adjusted[2] < 0.98


# ---- covariates ----


def lab_table(n):
    """Unbalanced, incomplete, and with the sex that the group half has."""
    group = np.repeat(["WT", "KO"], [n - n // 3, n // 3])
    rng = np.random.default_rng(0)
    sex = np.where(rng.random(n) < 0.8, np.where(group == "KO", "M", "F"), None)
    strain = rng.choice(["C57BL/6J", "FVB.CD1(ICR)", "B6.C3H"], n, p=[0.5, 0.3, 0.2])
    age = np.where(rng.random(n) < 0.1, np.nan, np.round(rng.normal(58, 3, n), 1))
    line = rng.choice(["Ai75(RCL-nT)", None], n)
    site = rng.choice(["VISp", "TH"], n)
    columns = {"group": group, "sex": sex, "strain": strain, "age_days": age}
    return pd.DataFrame(columns | {"line": line, "injection_structure": site})


@pytest.mark.slow
def test_a_labs_table_stays_as_it_is_and_its_brains_are_like_it():
    table, n = lab_table(300), 300
    cohort = made_like(table.sample(frac=1, random_state=1), artefact_share=0.2)
    shuffled = table.sample(frac=1, random_state=1).set_axis(cohort.metadata.index)
    pd.testing.assert_frame_equal(cohort.metadata[[*table]], shuffled)
    factors, recorded = cohort.factors, cohort.metadata
    # Effects of sex and strain of the population: +0.8 and +1.0.
    width = factors["brain_width"].groupby(recorded["sex"]).mean()
    thicker = factors["cortical_thickness"].groupby(recorded["strain"]).mean()
    assert width["M"] - width["F"] == pytest.approx(0.8, abs=0.35)
    assert thicker["C57BL/6J"] - thicker["FVB.CD1(ICR)"] == pytest.approx(1.0, abs=0.4)
    assert (recorded["artefact"] != "none").sum() == round(0.2 * n)
    # Confounded: what the sexes differ in looks like a difference of the groups.
    knockout = is_knockout(cohort)
    assert factors["brain_width"][knockout].mean() - factors["brain_width"][~knockout].mean() > 0.4


def test_without_a_design_a_lab_is_like_the_reference():
    many = made(300, 300).factors
    _, reference = ANATOMICAL.draw(2000, np.random.default_rng(9))
    assert np.abs(many.mean() - reference.mean()).max() < 0.15
    assert np.abs(many.std() - reference.std()).max() < 0.1
    lab, other = made(12, 12, seed=9).images, simulate(24, ATLAS, seed=9).images
    assert np.abs(lab[:, None] - other).max(axis=(2, 3)).min() > 0.05  # nobody is in both


def test_what_is_no_lab_is_refused():
    refused(
        [
            ("^no effect 'size'; there are none, thickness,", made, 3, 3, "size"),
            (r"^size=2.5 of effect 'plane' is outside \[-2, 2\]$", made, 3, 3, "plane", 2.5),
            (r"^size=-0.1 of effect 'damage' is outside \[0, 1\]$", made, 3, 3, "damage", -0.1),
            ("^0 wild types and 3 knockouts; give at least 1 of each$", made, 0, 3),
            ("^no simulator 'real'", lambda: made(simulator="real")),
            (r"^artefact_share=2 is outside", lambda: made(artefact_share=2)),
        ]
    )
