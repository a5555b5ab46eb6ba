"""The simulated cohorts: their truth is where they say it is."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from brainvae_core.cohorts import (
    FACTORS,
    FREEFORM_FACTORS,
    SIMULATORS,
    SMOOTH_FACTORS,
    ccf_atlas,
    drawn_atlas,
    freeform,
    simulate,
    simulated,
)
from brainvae_core.cohorts.freeform import (
    ADDED,
    DISPLACED_MM,
    added_maps,
    deformation_maps,
    smooth_maps,
)
from brainvae_core.cohorts.simulated import (
    CHUNK,
    DISPLACEMENT_MM,
    displacement_maps,
    gain_maps,
)

SHAPE = (80, 112)
each_simulator = pytest.mark.parametrize("name", SIMULATORS)


@pytest.fixture(scope="module")
def atlas():
    return drawn_atlas().resampled(SHAPE)


def section(atlas, **values):
    """By factors alone: ``section(atlas, brain_width=2)``."""
    simulator = next(s for s in SIMULATORS.values() if set(values) <= {*s.factors})
    factors = pd.DataFrame(0.0, index=[0], columns=list(simulator.factors), dtype=np.float32)
    return simulator.rendered(factors.assign(**values), atlas)[0]


# ---- what they share ----

# Mean, deviation, mean difference of neighbouring brains, and how a fixed pattern fits each.
RECORDED = {
    "planted": {
        "factors": (0.040557, 0.932427, 1.06898, 4.09465),
        "clean": (0.271953, 0.215259, 0.0636263, 0.00382723),
        "images": (0.2655, 0.214384, 0.0739727, 0.00368365),
        "artefact_masks": (0.06644, 0.24905, 0.13126, 0.00362269),
    },
    "freeform": {
        "factors": (0.0180625, 1.00132, 1.18328, 5.62947),
        "clean": (0.268491, 0.213698, 0.0395405, 0.0046285),
        "images": (0.261834, 0.212564, 0.050585, 0.00503866),
        "artefact_masks": (0.0681966, 0.252083, 0.133773, 0.00413683),
    },
    "smooth": {
        "factors": (0.00279451, 0.944472, 1.05158, 3.9327),
        "clean": (0.268333, 0.214987, 0.0542105, 0.00488141),
        "images": (0.261599, 0.213495, 0.0631153, 0.0046924),
        "artefact_masks": (0.0675014, 0.250888, 0.132325, 0.0020725),
    },
}


@pytest.mark.promise("a seed makes the cohort that it always made")
@each_simulator
def test_a_seed_makes_the_cohort_that_it_always_made(name):
    cohort = SIMULATORS[name].cohort(24, shape=(160, 224), artefact_share=0.5, seed=3)
    for part, expected in RECORDED[name].items():
        values = np.asarray(getattr(cohort, part), dtype=float)
        pattern = np.cos(np.arange(values[0].size).reshape(values.shape[1:]) * 0.37)
        fits = (values * pattern).reshape(len(values), -1).mean(axis=1)
        found = (values.mean(), values.std(), np.abs(np.diff(values, axis=0)).mean())
        assert (*found, np.abs(fits).sum()) == pytest.approx(expected, rel=1e-4), part


@each_simulator
def test_what_is_rendered_is_the_cohort_without_what_is_no_factor(name, atlas, monkeypatch):
    n, simulator = CHUNK + 3, SIMULATORS[name]
    names, render = simulator.factors, simulator.rendered
    cohort = simulator.cohort(n, shape=SHAPE, artefact_share=0.2, seed=5)
    found = render(cohort.factors, atlas)
    rest = (cohort.clean - found)[:, atlas.brain_mask]  # noise around it is clipped at 0
    assert found.shape == (n, *SHAPE) and found.dtype == np.float32
    assert abs(rest.mean()) < 2e-3 and 0.02 < rest.std() < 0.06
    np.testing.assert_array_equal(render(cohort.factors.iloc[:, ::-1], atlas), found)
    np.testing.assert_allclose(section(atlas, **{names[0]: 0}), 0.75 * atlas.template, atol=1e-6)
    module = simulated if name == "planted" else freeform
    for nuisance in {"TEXTURE", "LIGHT", "STREAKS", "NOISE"} & {*vars(module)}:
        monkeypatch.setattr(module, nuisance, {} if nuisance == "TEXTURE" else 0)
    bare = simulator.cohort(n, shape=SHAPE, artefact_share=0, seed=2)
    np.testing.assert_array_equal(bare.images, render(bare.factors, atlas))
    with pytest.raises(KeyError, match=names[-1]):
        render(cohort.factors.drop(columns=names[-1]), atlas)


@pytest.mark.promise("a seed makes the cohort that it always made")
@each_simulator
@pytest.mark.parametrize("n", [2, CHUNK, 2 * CHUNK + 3])
def test_every_brain_is_drawn_whatever_the_number_and_a_seed_draws_it_again(name, n):
    simulator = SIMULATORS[name]
    cohort, again, other = (simulator.cohort(n, shape=(40, 56), seed=seed) for seed in (0, 0, 4))
    assert cohort.images.shape == cohort.clean.shape == (n, 40, 56)
    assert tuple(cohort.factors) == simulator.factors
    inside = cohort.clean[:, cohort.atlas.brain_mask].mean(axis=1)
    assert inside.min() > 0.2 and len(np.unique(inside)) == n  # nobody twice
    assert cohort.fingerprint == again.fingerprint != other.fingerprint
    pd.testing.assert_frame_equal(cohort.metadata, again.metadata)


@each_simulator
@pytest.mark.slow
def test_it_works_on_the_real_slice(name, real_data):
    atlas = ccf_atlas(real_data)
    cohort = SIMULATORS[name].cohort(20, atlas, SHAPE, artefact_share=0.3, seed=0)
    assert cohort.images.shape == (20, *SHAPE) and cohort.atlas.terms == atlas.terms
    template = 0.75 * cohort.atlas.template
    assert np.corrcoef(cohort.clean.mean(axis=0).ravel(), template.ravel())[0, 1] > 0.98
    assert cohort.images.std(axis=0)[cohort.atlas.brain_mask].mean() > 0.02
    for u in deformation_maps(cohort.atlas).values():
        assert min(stretch(3 * u).min(), stretch(-3 * u).min()) > 0.5


# ---- factors over brains ----


def test_factors_are_standard_normal_and_depend_on_the_covariates_they_should():
    many = simulate(2000, shape=(40, 56), artefact_share=0, seed=1)
    metadata, factors = many.metadata, many.factors
    assert factors.mean().abs().max() < 4 / np.sqrt(len(factors))
    assert (factors.std() - 1).abs().max() < 0.06
    assert factors.abs().max().max() <= 3
    assert ((factors.abs() < 1).mean() - 0.683).abs().max() < 0.04
    # 0.4 · 0.3 by age and −0.5 · 0.3 · 0.4 (two strains of 20 %, one of 60 %) by strain.
    assert np.abs(factors.corr().to_numpy() - np.eye(len(FACTORS))).max() < 0.2

    width = factors.groupby(metadata["sex"])["brain_width"].mean()
    assert width["M"] - width["F"] == pytest.approx(0.8, abs=0.15)
    strain = factors.groupby(metadata["strain"]).mean()
    difference = strain.loc["C57BL/6J"] - strain.loc["FVB.CD1"]
    assert difference["cortical_thickness"] == pytest.approx(1.0, abs=0.2)
    assert difference["brightness_HPF"] == pytest.approx(-0.6, abs=0.2)
    age = factors.corrwith(metadata["age_days"])
    assert age["ventricle_size"] == pytest.approx(0.4, abs=0.08)
    assert age["brightness"] == pytest.approx(0.3, abs=0.08)
    assert age.drop(["ventricle_size", "brightness"]).abs().max() < 0.1


@pytest.mark.parametrize(("name", "kurtosis"), [("freeform", (1, 2.5)), ("smooth", (4, 7))])
def test_other_simulators_factors_are_independent_and_not_gaussian(name, kurtosis):
    many = SIMULATORS[name].cohort(2000, shape=(40, 56), artefact_share=0, seed=1)
    factors = many.factors.to_numpy()
    assert np.abs(factors.mean(axis=0)).max() < 4 / np.sqrt(2000)
    assert factors.std(axis=0) == pytest.approx(np.ones(factors.shape[1]), abs=0.1)
    assert kurtosis[0] < (factors**4).mean() < kurtosis[1]  # of a normal distribution: 3
    assert np.abs(np.corrcoef(factors.T) - np.eye(factors.shape[1])).max() < 0.12
    known = many.metadata[["sex", "age_days", "strain", "injection_structure"]]
    known = pd.get_dummies(known).astype(float)
    between = many.factors.apply(lambda factor: known.corrwith(factor))
    assert between.abs().max().max() < 0.12


def test_smooth_fields_are_of_their_size_and_fold_nothing(atlas):
    greys, shifts = smooth_maps(atlas)
    assert (*greys, *shifts) == SMOOTH_FACTORS
    inside = np.stack([grey[atlas.brain_mask] for grey in greys.values()])
    assert inside.std(axis=1) == pytest.approx(np.full(7, freeform.FIELD_GREY))
    assert np.abs(inside.mean(axis=1)).max() < 1e-6  # no global brightness
    moves = np.stack([*shifts.values()])
    furthest = np.hypot(moves[:, 0], moves[:, 1])[:, atlas.brain_mask].max(axis=1)
    assert furthest * 0.1 == pytest.approx(np.full(7, freeform.FIELD_SHIFT_MM))
    for u in (*moves, *deformation_maps(atlas).values()):
        assert min(stretch(3 * u).min(), stretch(-3 * u).min()) > 0.5


# ---- where each factor acts ----


def stretch(u):
    """Determinant of the Jacobian of x − u(x): not positive where tissue folds."""
    (yy, yx), (xy, xx) = (np.gradient(part) for part in u)
    return (1 - yy) * (1 - xx) - yx * xy


def test_every_factor_has_one_map_of_its_size_in_mm(atlas):
    gains, moves = gain_maps(atlas), displacement_maps(atlas)
    assert {*gains, *moves} == set(FACTORS) and [*moves] == [*DISPLACEMENT_MM]
    added, deformed = added_maps(atlas), deformation_maps(atlas)
    assert (*added, *deformed) == (*ADDED, *DISPLACED_MM) == FREEFORM_FACTORS
    for factor, grey in added.items():
        assert not grey[~atlas.brain_mask].any()
        assert np.abs(grey).max() == pytest.approx(ADDED[factor], rel=0.05)
    wanted = DISPLACEMENT_MM | DISPLACED_MM
    for factor, u in {**moves, **deformed}.items():
        furthest = np.hypot(*u)[atlas.brain_mask].max() * atlas.pixel_um / 1000
        assert furthest == pytest.approx(wanted[factor], rel=0.2)


@pytest.mark.parametrize("factor", [*FACTORS, *FREEFORM_FACTORS])
def test_a_factor_acts_where_its_map_is_and_nowhere_else(atlas, factor):
    maps = gain_maps(atlas) | displacement_maps(atlas) | added_maps(atlas) | deformation_maps(atlas)
    size = np.hypot(*maps[factor]) if maps[factor].ndim == 3 else np.abs(maps[factor])
    change = np.abs(section(atlas, **{factor: 2.0}) - section(atlas, **{factor: 0.0}))
    assert change[size < 1e-6].max(initial=0) < 1e-5
    assert change[atlas.brain_mask & (size > 0.5 * size.max())].mean() > 0.005


def test_brightness_is_a_gain_of_its_region_and_illumination_rises_to_the_right(atlas):
    base = section(atlas)
    for region, other in product(("HPF", "TH"), ("HPF", "TH", "HY", "SSp")):
        brighter, mask = section(atlas, **{f"brightness_{region}": 2.0}), atlas.roi_masks([other])
        gain = np.log(brighter[mask[0]].mean() / base[mask[0]].mean())
        assert gain == pytest.approx(0.20 if other == region else 0, abs=0.015), (region, other)
    brighter = section(atlas, brightness=2.0)
    np.testing.assert_allclose(brighter, base * np.exp(0.16), rtol=1e-4, atol=1e-6)
    lit = section(atlas, illumination=2.0)
    columns = np.flatnonzero(atlas.brain_mask.any(axis=0))
    gain = np.log(lit[:, columns].sum(axis=0) / base[:, columns].sum(axis=0))
    np.testing.assert_allclose(gain, np.linspace(-0.2, 0.2, columns.size), atol=1e-3)


@pytest.mark.parametrize(("factor", "axis"), [("brain_width", 0), ("brain_height", 1)])
def test_a_wider_and_a_higher_brain_have_a_larger_outline(atlas, factor, axis):
    small, base, large = (section(atlas, **{factor: size}) > 0.1 for size in (-2.0, 0, 2.0))
    grown = 2 * 2 * DISPLACEMENT_MM[factor] * 1000 / atlas.pixel_um  # both sides, two deviations
    extents = [image.any(axis=axis).sum() for image in (small, base, large)]
    assert np.diff(extents) == pytest.approx(grown, abs=2)
    assert len({image.any(axis=1 - axis).sum() for image in (small, base, large)}) == 1


# ---- artefacts in the cohorts ----


@each_simulator
@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.4, 15), (1, 37)])
def test_any_share_is_kept_in_equal_numbers(name, share, expected):
    cohort = SIMULATORS[name].cohort(37, shape=(40, 56), artefact_share=share, seed=0)
    metadata = cohort.metadata
    corrupted = metadata["artefact"] != "none"
    counts = metadata["artefact"][corrupted].value_counts()
    every_kind = counts.reindex(["leak", "breakage", "grid"], fill_value=0)
    assert corrupted.sum() == expected and np.ptp(every_kind) <= 1
    assert ((metadata["artefact_strength"] > 0) == corrupted).all()


@each_simulator
def test_images_are_clean_but_for_their_masked_artefacts(name):
    cohort = SIMULATORS[name].cohort(300, shape=SHAPE, artefact_share=0.2, seed=5)
    change = np.abs(cohort.images - cohort.clean)
    assert np.array_equal(cohort.artefact_masks, change > 0.02)
    corrupted = (cohort.metadata["artefact"] != "none").to_numpy()
    assert np.array_equal(cohort.artefact_masks.any(axis=(1, 2)), corrupted)
    assert not change[~corrupted].any()
    assert cohort.metadata["artefact_strength"][corrupted].between(0.4, 1).all()


# ---- what they refuse ----


@each_simulator
def test_what_cannot_be_simulated_is_refused(name, atlas):
    share, make = r"^artefact_share=.* is outside \[0, 1\]$", SIMULATORS[name].cohort
    cases = [(f"^n_brains={n}: a cohort has at least 2 brains$", make, n) for n in (1, 0, -3)]
    cases += [(share, make, 4, None, None, value) for value in (-0.1, 1.5, np.nan)]
    cases += [("320×448 to 100×140.*160×224, 80×112", make, 4, None, (100, 140))]
    regions = {"planted": ("VS", "Isocortex", "HPF", "TH", "HY"), "freeform": ("SSp", "HPF")}
    sides = ("both", "left") if name == "freeform" else ("both",)
    for region, side in product(regions.get(name, ()), sides):  # smooth fields ask for none
        cc = int(atlas.structures.set_index("acronym").loc["cc", "id"])
        mask = atlas.roi_masks([region], side=side)[0]
        without = np.where(mask, np.uint32(cc), atlas.annotation)
        words = f"{region}.* no pixel in atlas 'drawn atlas'"
        cases.append((words, make, 4, replace(atlas, annotation=without)))
    refused(cases)
