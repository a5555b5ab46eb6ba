"""The simulated cohort: its truth is where it says it is."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import binary_dilation, map_coordinates

from brainvae_core.cohorts import FACTORS, ccf_atlas, drawn_atlas, rendered, simulate
from brainvae_core.cohorts import simulated as simulated_module
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.cohorts.simulated import (
    CHUNK,
    DISPLACEMENT_MM,
    INJECTED,
    STRAINS,
    displacement_maps,
    gain_maps,
)

SHAPE = (80, 112)


@pytest.fixture(scope="module")
def atlas():
    return drawn_atlas().resampled(SHAPE)


@pytest.fixture(scope="module")
def cohort():
    return simulate(300, shape=SHAPE, artefact_share=0.2, seed=5)


@pytest.fixture(scope="module")
def many():
    """Enough brains for their averages, at the fewest pixels."""
    return simulate(2000, shape=(40, 56), artefact_share=0, seed=1)


@pytest.fixture
def noiseless():
    """Sections by factors alone: ``section(atlas, brain_width=2)``."""

    def section(atlas, **values):
        factors = pd.DataFrame(0.0, index=[0], columns=list(FACTORS), dtype=np.float32)
        return rendered(factors.assign(**values), atlas)[0]

    return section


# ---- the cohort as a whole ----


def test_what_is_rendered_is_the_cohort_without_texture_and_noise(cohort, atlas, monkeypatch):
    n = CHUNK + 3
    found = rendered(cohort.factors.iloc[:n], atlas)
    rest = (cohort.clean[:n] - found)[:, atlas.brain_mask]  # noise around it is clipped at 0
    assert found.shape == (n, *SHAPE) and found.dtype == np.float32
    assert abs(rest.mean()) < 2e-3 and 0.02 < rest.std() < 0.06
    shuffled = cohort.factors.iloc[:n, ::-1]
    np.testing.assert_array_equal(rendered(shuffled, atlas), found)
    monkeypatch.setattr(simulated_module, "TEXTURE", {})
    monkeypatch.setattr(simulated_module, "NOISE", 0)
    bare = simulate(n, shape=SHAPE, artefact_share=0, seed=2)
    np.testing.assert_array_equal(bare.images, rendered(bare.factors, atlas))
    with pytest.raises(ValueError, match="factors lack brain_width"):
        rendered(cohort.factors.drop(columns="brain_width"), atlas)


def test_a_seed_makes_one_cohort():
    first, again, other = (simulate(CHUNK + 5, shape=(40, 56), seed=s) for s in (3, 3, 4))
    for part in ("images", "clean", "artefact_masks"):
        assert np.array_equal(getattr(first, part), getattr(again, part))
    pd.testing.assert_frame_equal(first.metadata, again.metadata)
    pd.testing.assert_frame_equal(first.factors, again.factors)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert not np.isclose(first.clean.mean(axis=0), other.clean.mean(axis=0), atol=1e-4).all()


@pytest.mark.parametrize("n", [2, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_every_brain_is_drawn_whatever_the_number(n):
    cohort = simulate(n, shape=(40, 56), seed=0)
    assert cohort.images.shape == cohort.clean.shape == (n, 40, 56)
    assert cohort.factors.shape == (n, len(FACTORS)) and list(cohort.factors) == list(FACTORS)
    inside = cohort.clean[:, cohort.atlas.brain_mask]
    assert inside.mean(axis=1).min() > 0.2
    assert len(np.unique(inside.mean(axis=1))) == n  # nobody twice
    assert set(cohort.metadata["split"]) <= {"train", "validation", "test"}


def test_it_is_drawn_on_the_drawn_atlas_at_its_own_size_by_default():
    cohort = simulate(2)
    assert cohort.images.shape == (2, 320, 448)
    assert cohort.name == "simulated on drawn atlas" and cohort.atlas is drawn_atlas()


def test_factors_are_standard_normal(many):
    factors = many.factors
    assert factors.mean().abs().max() < 4 / np.sqrt(len(factors))
    assert (factors.std() - 1).abs().max() < 0.06
    assert factors.abs().max().max() <= 3
    share_within_1_sd = (factors.abs() < 1).mean()
    assert (share_within_1_sd - 0.683).abs().max() < 0.04
    assert factors.skew().abs().max() < 0.25


def test_factors_depend_on_each_other_only_through_covariates(many):
    correlation = many.factors.corr().to_numpy() - np.eye(len(FACTORS))
    # 0.4 · 0.3 by age and −0.5 · 0.3 · 0.4 (two strains of 20 %, one of 60 %) by strain.
    assert np.abs(correlation).max() < 0.2


def test_covariates_act_on_the_factors_they_should(many):
    metadata, factors = many.metadata, many.factors
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
    assert set(metadata["strain"]) == set(STRAINS)
    assert set(metadata["injection_structure"]) == set(INJECTED)


def test_eight_components_do_not_explain_everything(cohort):
    fit_on = (cohort.metadata["split"] == "train").to_numpy()
    flat = cohort.images.reshape(len(cohort), -1).astype(np.float64)
    flat -= flat[fit_on].mean(axis=0)
    _, _, components = np.linalg.svd(flat[fit_on], full_matrices=False)
    codes = flat[~fit_on] @ components[:8].T
    explained = np.square(codes).sum() / np.square(flat[~fit_on]).sum()
    assert 0.4 < explained < 0.8


def test_half_the_pixels_show_the_same_average_brain():
    fine, coarse = (simulate(64, shape=s, artefact_share=0, seed=2) for s in ((160, 224), SHAPE))
    assert coarse.factors.equals(fine.factors)
    averages = block_mean(fine.images.mean(axis=0), 2), coarse.images.mean(axis=0)
    assert np.corrcoef(*map(np.ravel, averages))[0, 1] > 0.99
    assert np.abs(averages[0] - averages[1])[coarse.atlas.brain_mask].mean() < 0.01


def test_a_factor_acts_alike_at_half_the_pixels(atlas, noiseless):
    fine_atlas = drawn_atlas().resampled((160, 224))
    for factor in FACTORS:
        fine, coarse = (
            noiseless(a, **{factor: 2.0}) - noiseless(a, **{factor: -2.0})
            for a in (fine_atlas, atlas)
        )
        assert np.corrcoef(block_mean(fine, 2).ravel(), coarse.ravel())[0, 1] > 0.9, factor


def test_it_works_on_the_real_slice(real_data):
    atlas = ccf_atlas(real_data)
    cohort = simulate(20, atlas, SHAPE, artefact_share=0.3, seed=0)
    assert cohort.images.shape == (20, *SHAPE) and cohort.atlas.terms == atlas.terms
    template = 0.75 * cohort.atlas.template
    assert np.corrcoef(cohort.clean.mean(axis=0).ravel(), template.ravel())[0, 1] > 0.98
    assert cohort.images.std(axis=0)[cohort.atlas.brain_mask].mean() > 0.02


# ---- where each factor acts ----


def log_ratio(section, atlas, region, base):
    mask = atlas.roi_masks([region])[0]
    return np.log(section[mask].mean() / base[mask].mean())


def test_every_factor_has_one_map(atlas):
    gains, displacements = gain_maps(atlas), displacement_maps(atlas)
    assert [*gains, *displacements] == [*gains, *DISPLACEMENT_MM]
    assert {*gains, *displacements} == set(FACTORS)
    assert all(gain.shape == SHAPE for gain in gains.values())
    for factor, u in displacements.items():
        assert u.shape == (2, *SHAPE) and np.isfinite(u).all()
        furthest = np.hypot(*u)[atlas.brain_mask].max() * atlas.pixel_um / 1000
        assert furthest == pytest.approx(DISPLACEMENT_MM[factor], rel=0.2)


def test_a_section_without_factors_is_the_template(atlas, noiseless):
    np.testing.assert_allclose(noiseless(atlas), 0.75 * atlas.template, atol=1e-6)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_factor_changes_nothing_where_its_map_is_zero(atlas, noiseless, factor):
    maps = gain_maps(atlas)
    size = np.abs(maps[factor]) if factor in maps else np.hypot(*displacement_maps(atlas)[factor])
    change = np.abs(noiseless(atlas, **{factor: 2.0}) - noiseless(atlas))
    off = size < 1e-6
    assert change[off].max(initial=0) < 1e-5
    assert change[atlas.brain_mask & (size > 0.5 * size.max())].mean() > 0.005


@pytest.mark.parametrize("region", ["HPF", "TH"])
def test_a_regions_brightness_changes_that_region(atlas, noiseless, region):
    base = noiseless(atlas)
    brighter = noiseless(atlas, **{f"brightness_{region}": 2.0})
    assert log_ratio(brighter, atlas, region, base) == pytest.approx(0.20, abs=0.015)
    for other in {"HPF", "TH", "HY", "SSp", "STR"} - {region}:
        assert abs(log_ratio(brighter, atlas, other, base)) < 0.01


def test_brightness_is_one_gain_everywhere(atlas, noiseless):
    base, brighter = noiseless(atlas), noiseless(atlas, brightness=2.0)
    np.testing.assert_allclose(brighter, base * np.exp(0.16), rtol=1e-4, atol=1e-6)


def test_illumination_brightens_the_right_and_darkens_the_left(atlas, noiseless):
    base, lit = noiseless(atlas), noiseless(atlas, illumination=2.0)
    columns = np.flatnonzero(atlas.brain_mask.any(axis=0))
    gain = np.log(lit[:, columns].sum(axis=0) / base[:, columns].sum(axis=0))
    np.testing.assert_allclose(gain, np.linspace(-0.2, 0.2, columns.size), atol=1e-3)


def test_a_larger_ventricle_is_a_larger_dark_hole(atlas, noiseless):
    ventricle = atlas.roi_masks(["VS"])[0]
    around = binary_dilation(ventricle, iterations=3)
    base = noiseless(atlas)
    border = (base[ventricle].mean() + base[around & ~ventricle].mean()) / 2
    dark = [
        np.sum(noiseless(atlas, ventricle_size=size)[around] < border) for size in (-2.0, 0, 2.0)
    ]
    assert dark[0] < 0.7 * dark[1] and dark[2] > 1.2 * dark[1]


@pytest.mark.parametrize(("factor", "axis"), [("brain_width", 0), ("brain_height", 1)])
def test_a_wider_and_a_higher_brain_have_a_larger_outline(atlas, noiseless, factor, axis):
    def extent(image, along):
        return (image > 0.1).any(axis=along).sum()

    base = noiseless(atlas)
    small, large = noiseless(atlas, **{factor: -2.0}), noiseless(atlas, **{factor: 2.0})
    grown = 2 * 2 * DISPLACEMENT_MM[factor] * 1000 / atlas.pixel_um  # both sides, two deviations
    assert extent(large, axis) - extent(base, axis) == pytest.approx(grown, abs=2)
    assert extent(base, axis) - extent(small, axis) == pytest.approx(grown, abs=2)
    assert extent(large, 1 - axis) == extent(base, 1 - axis) == extent(small, 1 - axis)


def warped_area(atlas, mask, displacement):
    where = np.indices(atlas.shape) - displacement
    return map_coordinates(mask.astype(float), where, order=1).sum() / mask.sum()


def test_a_thicker_cortex_grows_inwards(atlas):
    u = 2 * displacement_maps(atlas)["cortical_thickness"]
    isocortex, thalamus = atlas.roi_masks(["Isocortex", "TH"])
    assert warped_area(atlas, isocortex, u) > 1.03 > 0.95 > warped_area(atlas, isocortex, -u)
    assert warped_area(atlas, thalamus, u) == pytest.approx(1, abs=0.002)
    assert warped_area(atlas, atlas.brain_mask, u) == pytest.approx(1, abs=0.02)


def test_ap_position_moves_the_middle_of_the_section_down(atlas):
    down, across = displacement_maps(atlas)["ap_position"]
    assert down.min() >= 0 and not across.any()
    hippocampus, thalamus = atlas.roi_masks(["HPF", "TH"])
    row = np.average(np.arange(SHAPE[0]), weights=down.sum(axis=1))
    assert np.nonzero(hippocampus)[0].mean() < row < np.nonzero(thalamus)[0].mean()
    assert warped_area(atlas, thalamus, np.stack([down, across])) < 1
    assert warped_area(atlas, hippocampus, np.stack([down, across])) > 1


@pytest.mark.parametrize("length", [2.0, 6.5])
def test_texture_has_unit_variance_and_its_length(length):
    rng = np.random.default_rng(0)
    fields = simulated_module._smooth_fields(400, (39, 52), length, rng)
    assert fields.shape == (400, 39, 52)
    assert fields.mean() == pytest.approx(0, abs=0.05)
    variance = fields.var(axis=0)
    assert variance.mean() == pytest.approx(1, abs=0.05) and variance.min() > 0.6
    for axis in (1, 2):
        lag = round(length)
        left, right = (np.take(fields, range(a, a + 30), axis) for a in (0, lag))
        # A Gaussian kernel exp(−d²/l²) with itself gives exp(−d²/2l²).
        expected = np.exp(-(lag**2) / (2 * length**2))
        products = (left * right).mean(axis=0)
        assert products.mean() == pytest.approx(expected, abs=0.05)
        assert np.abs(products - expected).max() < 0.3  # alike everywhere


# ---- artefacts in the cohort ----


def test_the_share_of_artefacts_is_exact_and_their_kinds_are_equal(cohort):
    kinds = cohort.metadata["artefact"].value_counts()
    assert kinds.to_dict() == {"none": 240, "leak": 20, "breakage": 20, "grid": 20}


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.15, 6), (0.4, 15), (1, 37)])
def test_any_share_is_kept(share, expected):
    cohort = simulate(37, shape=(40, 56), artefact_share=share, seed=0)
    kinds = cohort.metadata["artefact"]
    corrupted = (kinds != "none").to_numpy()
    assert corrupted.sum() == expected
    counts = kinds[corrupted].value_counts()
    every_kind = counts.reindex(["leak", "breakage", "grid"], fill_value=0)
    assert every_kind.max() - every_kind.min() <= 1
    assert np.array_equal((cohort.metadata["artefact_strength"] > 0).to_numpy(), corrupted)


def test_images_are_clean_but_for_their_masked_artefacts(cohort):
    change = np.abs(cohort.images - cohort.clean)
    assert np.array_equal(cohort.artefact_masks, change > 0.02)
    corrupted = (cohort.metadata["artefact"] != "none").to_numpy()
    assert np.array_equal(cohort.artefact_masks.any(axis=(1, 2)), corrupted)
    assert not change[~corrupted].any()
    assert cohort.metadata["artefact_strength"][corrupted].between(0.4, 1).all()


def test_injections_lie_in_their_structure_in_the_right_hemisphere(cohort):
    sites = cohort.metadata[["injection_dv_um", "injection_ml_um"]] / cohort.atlas.pixel_um
    rows, columns = sites.round().astype(int).to_numpy().T
    assert (columns >= SHAPE[1] / 2).all()
    for structure in INJECTED:
        mask = cohort.atlas.roi_masks([structure])[0]
        here = (cohort.metadata["injection_structure"] == structure).to_numpy()
        assert mask[rows[here], columns[here]].all()


def test_a_leak_lies_at_its_injection(cohort):
    leaks = (cohort.metadata["artefact"] == "leak").to_numpy()
    sites = cohort.metadata[["injection_dv_um", "injection_ml_um"]] / cohort.atlas.pixel_um
    for i in np.flatnonzero(leaks):
        row, column = sites.iloc[i].round().astype(int)
        added = cohort.images[i] - cohort.clean[i]
        assert cohort.artefact_masks[i, row, column] and added.min() >= 0
        centre = [np.average(axis, weights=added) for axis in np.indices(SHAPE)]
        assert np.hypot(centre[0] - row, centre[1] - column) * cohort.atlas.pixel_um < 250


# ---- what it refuses ----


@pytest.mark.parametrize("n", [1, 0, -3])
def test_too_few_brains_are_refused(n):
    with pytest.raises(ValueError, match=f"^n_brains={n}: a cohort has at least 2 brains$"):
        simulate(n)


@pytest.mark.parametrize("share", [-0.1, 1.5, np.nan])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match=r"^artefact_share=.* is outside \[0, 1\]$"):
        simulate(4, artefact_share=share)


def test_a_shape_that_is_no_whole_reduction_is_refused():
    with pytest.raises(ValueError, match="320×448 to 100×140.*160×224, 80×112"):
        simulate(4, shape=(100, 140))


@pytest.mark.parametrize("region", ["VS", "Isocortex", "HPF", "TH", "HY"])
def test_an_atlas_without_a_region_is_refused(atlas, region):
    mask = atlas.roi_masks([region])[0]
    cc = int(atlas.structures.set_index("acronym").loc["cc", "id"])
    annotation = np.where(mask, np.uint32(cc), atlas.annotation)
    with pytest.raises(ValueError, match=f"{region}.* no pixel in atlas 'drawn atlas'"):
        simulate(4, replace(atlas, annotation=annotation))
