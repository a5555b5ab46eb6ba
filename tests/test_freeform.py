"""The second simulated cohort: its truth is where it says it is."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import distance_transform_edt

from brainvae_core.cohorts import (
    FACTORS,
    Preprocessing,
    artefact_free,
    ccf_atlas,
    comparable_section,
    corrupted_brains,
    drawn_atlas,
    judged,
    known_factors,
    open_cohort,
    simulate,
)
from brainvae_core.cohorts import freeform as freeform_module
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.cohorts.freeform import (
    ADDED,
    DISPLACED_MM,
    FREEFORM_FACTORS,
    TWO_GROUPS,
    added_maps,
    deformation_maps,
    rendered_freeform,
    simulate_freeform,
)
from brainvae_core.cohorts.simulated import CHUNK, INJECTED

SHAPE = (80, 112)


@pytest.fixture(scope="module")
def atlas():
    return drawn_atlas().resampled(SHAPE)


@pytest.fixture(scope="module")
def cohort():
    return simulate_freeform(400, shape=SHAPE, artefact_share=0.15, seed=5)


@pytest.fixture(scope="module")
def many():
    """Enough brains for their averages, at the fewest pixels."""
    return simulate_freeform(2000, shape=(40, 56), artefact_share=0, seed=1)


def section(atlas, **values):
    """By factors alone: ``section(atlas, tilt=2)``."""
    factors = pd.DataFrame(0.0, index=[0], columns=list(FREEFORM_FACTORS), dtype=np.float32)
    return rendered_freeform(factors.assign(**values), atlas)[0]


def nuisances(monkeypatch, **values):
    for name in ("LIGHT", "STREAKS", "NOISE"):
        monkeypatch.setattr(freeform_module, name, values.get(name, 0))


# ---- the cohort as a whole ----


def test_what_is_rendered_is_the_cohort_without_light_streaks_and_noise(cohort, atlas, monkeypatch):
    n = CHUNK + 3
    found = rendered_freeform(cohort.factors.iloc[:n], atlas)
    rest = (cohort.clean[:n] - found)[:, atlas.brain_mask]
    assert found.shape == (n, *SHAPE) and found.dtype == np.float32
    assert abs(rest.mean()) < 2e-3 and 0.02 < rest.std() < 0.06
    shuffled = cohort.factors.iloc[:n, ::-1]
    np.testing.assert_array_equal(rendered_freeform(shuffled, atlas), found)
    nuisances(monkeypatch)
    bare = simulate_freeform(n, shape=SHAPE, artefact_share=0, seed=2)
    np.testing.assert_array_equal(bare.images, rendered_freeform(bare.factors, atlas))


def test_a_seed_makes_one_cohort():
    first, again, other = (simulate_freeform(CHUNK + 5, shape=(40, 56), seed=s) for s in (3, 3, 4))
    for part in ("images", "clean", "artefact_masks"):
        assert np.array_equal(getattr(first, part), getattr(again, part))
    pd.testing.assert_frame_equal(first.metadata, again.metadata)
    pd.testing.assert_frame_equal(first.factors, again.factors)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert not first.factors.equals(other.factors)


@pytest.mark.parametrize("n", [2, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_every_brain_is_drawn_whatever_the_number(n):
    cohort = simulate_freeform(n, shape=(40, 56), seed=0)
    assert cohort.images.shape == cohort.clean.shape == (n, 40, 56)
    assert cohort.images.dtype == np.float32
    assert cohort.images.min() >= 0 and cohort.images.max() <= 1
    assert cohort.factors.shape == (n, 8) and list(cohort.factors) == list(FREEFORM_FACTORS)
    inside = cohort.clean[:, cohort.atlas.brain_mask].mean(axis=1)
    assert inside.min() > 0.2 and len(np.unique(inside)) == n  # nobody twice
    assert set(cohort.metadata["split"]) <= {"train", "validation", "test"}


def test_it_is_drawn_on_the_drawn_atlas_at_its_own_size_by_default():
    cohort = simulate_freeform(2)
    assert cohort.images.shape == (2, 320, 448)
    assert cohort.name == "freeform on drawn atlas" and cohort.atlas is drawn_atlas()


def test_it_has_the_first_simulators_columns_but_none_of_its_factors(cohort):
    first = simulate(2, shape=(40, 56))
    assert list(cohort.metadata) == list(first.metadata)
    assert (cohort.metadata.dtypes == first.metadata.dtypes).all()
    assert not set(FREEFORM_FACTORS) & set(FACTORS)


def test_factors_have_unit_variance_and_are_not_gaussian(many):
    factors = many.factors
    assert factors.mean().abs().max() < 4 / np.sqrt(len(factors))
    assert (factors.std() - 1).abs().max() < 0.04
    assert factors.abs().max().max() < 2
    share_within_1_sd = (factors.abs() < 1).mean()
    uniform = share_within_1_sd.drop(TWO_GROUPS)
    assert (uniform - 1 / np.sqrt(3)).abs().max() < 0.05
    groups = factors[TWO_GROUPS]
    assert (groups.abs() < 0.4).mean() < 0.06 < 0.8 < (groups.abs() > 0.6).mean()
    assert (groups > 0).mean() == pytest.approx(0.5, abs=0.05)


def test_factors_depend_neither_on_each_other_nor_on_covariates(many):
    correlation = many.factors.corr().to_numpy() - np.eye(8)
    assert np.abs(correlation).max() < 4 / np.sqrt(len(many))
    known = pd.get_dummies(many.metadata[["sex", "age_days", "strain", "injection_structure"]])
    between = many.factors.apply(lambda factor: known.astype(float).corrwith(factor))
    assert between.abs().max().max() < 4 / np.sqrt(len(many))


def shares(cohort):
    """Of the clean images' variance about their mean, what is linear in each factor."""
    flat = cohort.clean.reshape(len(cohort), -1) - cohort.clean.mean(axis=0).ravel()
    scores = ((cohort.factors - cohort.factors.mean()) / cohort.factors.std(ddof=0)).to_numpy()
    slopes = scores.T @ flat / len(flat)
    return pd.Series(np.square(slopes).sum(axis=1) / flat.var(axis=0).sum(), FREEFORM_FACTORS)


def test_every_factor_has_a_comparable_part_in_the_brains_variance(cohort):
    share = shares(cohort)
    assert share.between(0.04, 0.15).all(), share
    assert 0.5 < share.sum() < 0.75


def test_half_the_pixels_show_the_same_brains():
    fine, coarse = (
        simulate_freeform(32, shape=s, artefact_share=0, seed=2) for s in ((160, 224), SHAPE)
    )
    assert coarse.factors.equals(fine.factors)
    shown, expected = coarse.images, block_mean(fine.images, 2)
    assert np.abs(shown - expected)[:, coarse.atlas.brain_mask].mean() < 0.015
    of_brains = [(images - images.mean(axis=0)).ravel() for images in (shown, expected)]
    assert np.corrcoef(*of_brains)[0, 1] > 0.9


def test_a_factor_acts_alike_at_half_the_pixels(atlas):
    fine_atlas = drawn_atlas().resampled((160, 224))
    for factor in FREEFORM_FACTORS:
        fine, coarse = (
            section(a, **{factor: 2.0}) - section(a, **{factor: -2.0}) for a in (fine_atlas, atlas)
        )
        assert np.corrcoef(block_mean(fine, 2).ravel(), coarse.ravel())[0, 1] > 0.94, factor
        size = np.abs(block_mean(fine, 2)).sum() / np.abs(coarse).sum()
        assert size == pytest.approx(1, abs=0.15), factor


@pytest.mark.parametrize("factor", DISPLACED_MM)
def test_a_displacement_is_the_same_in_mm_at_half_the_pixels(atlas, factor):
    fine = block_mean(deformation_maps(drawn_atlas().resampled((160, 224)))[factor] * 0.05, 2)
    coarse = deformation_maps(atlas)[factor] * 0.1
    np.testing.assert_allclose(fine, coarse, atol=0.03 * DISPLACED_MM[factor])


def test_it_works_on_the_real_slice(real_data):
    atlas = ccf_atlas(real_data)
    cohort = simulate_freeform(400, atlas, SHAPE, artefact_share=0.3, seed=0)
    assert cohort.images.shape == (400, *SHAPE) and cohort.atlas.terms == atlas.terms
    template = 0.75 * cohort.atlas.template
    assert np.corrcoef(cohort.clean.mean(axis=0).ravel(), template.ravel())[0, 1] > 0.98
    assert shares(cohort).between(0.04, 0.15).all()
    for u in deformation_maps(cohort.atlas).values():
        assert min(stretch(3 * u).min(), stretch(-3 * u).min()) > 0.5


# ---- where each factor acts ----


def where(atlas, factor):
    """Where a factor is known to act, (height, width) bool."""
    middle = (np.array(SHAPE) - 1).reshape(2, 1, 1) / 2
    y, x = (np.indices(SHAPE) - middle) * atlas.pixel_um / 1000  # mm from the section's middle
    places = {
        "midline_shift": np.abs(x) < 1.2,
        "sag_ventral": y > 1,
        "tilt": distance_transform_edt(atlas.brain_mask) * atlas.pixel_um < 300,  # the surface
    }
    if factor in places:
        return places[factor]
    region = {"twist_hippocampus": "HPF"}.get(factor, factor.split("_")[1])
    return atlas.roi_masks([region], side="left" if factor.endswith("left") else "both")[0]


def stretch(u):
    """Determinant of the Jacobian of x − u(x): not positive where tissue folds."""
    (yy, yx), (xy, xx) = (np.gradient(part) for part in u)
    return (1 - yy) * (1 - xx) - yx * xy


def test_a_section_without_factors_is_the_template(atlas):
    np.testing.assert_allclose(section(atlas), 0.75 * atlas.template, atol=1e-6)


def test_every_factor_has_one_map(atlas):
    added, moved = added_maps(atlas), deformation_maps(atlas)
    assert (*added, *moved) == (*ADDED, *DISPLACED_MM) == FREEFORM_FACTORS
    for factor, grey in added.items():
        assert grey.shape == SHAPE and not grey[~atlas.brain_mask].any()
        assert np.abs(grey).max() == pytest.approx(ADDED[factor], rel=0.05)
    for factor, u in moved.items():
        assert u.shape == (2, *SHAPE) and np.isfinite(u).all()
        furthest = np.hypot(*u)[atlas.brain_mask].max() * atlas.pixel_um / 1000
        assert furthest == pytest.approx(DISPLACED_MM[factor])


@pytest.mark.parametrize("factor", FREEFORM_FACTORS)
def test_a_factor_changes_its_own_place_more_than_any_other(atlas, factor):
    change = np.abs(section(atlas, **{factor: 2.0}) - section(atlas, **{factor: -2.0}))
    there = where(atlas, factor) & atlas.brain_mask
    assert change[there].mean() > 0.02
    times = 2 if factor == "tilt" else 4  # a tilt moves everything, and the surface furthest
    assert change[there].mean() > times * change[atlas.brain_mask & ~there].mean()


@pytest.mark.parametrize("factor", ADDED)
def test_what_is_added_changes_grey_values_alike_whatever_they_are(atlas, factor):
    base, grey = section(atlas), added_maps(atlas)[factor]
    for size in (-1.5, 1.5):
        changed = section(atlas, **{factor: size})
        inside = changed > 0  # black stays black
        np.testing.assert_allclose((changed - base)[inside], size * grey[inside], atol=1e-6)
    assert np.abs(grey[atlas.roi_masks(["HPF"])[0]]).max() < 0.05 * ADDED[factor]


def test_the_striatum_brightens_where_its_surround_darkens(atlas):
    striatum = where(atlas, "contrast_STR")
    grey = added_maps(atlas)["contrast_STR"]
    assert grey[striatum].mean() > 0.02
    assert grey[~striatum].min() < -0.02 and grey[~striatum].mean() < 0


def test_a_factor_of_one_hemisphere_leaves_the_other(atlas):
    base, brighter = section(atlas), section(atlas, offset_SSp_left=2.0)
    right = np.arange(SHAPE[1]) >= SHAPE[1] / 2
    assert np.array_equal(brighter[:, right], base[:, right])
    somatosensory = where(atlas, "offset_SSp_left")
    assert (brighter - base)[somatosensory].mean() == pytest.approx(0.15, abs=0.03)


def test_no_deformation_folds_tissue(atlas):
    maps = deformation_maps(atlas)
    for factor, size in product(maps, (-3, 3)):
        assert stretch(size * maps[factor]).min() > 0.5, factor
    # Uniform factors end at √3.
    for signs in product((-1, 1), repeat=len(maps)):
        together = sum(s * np.sqrt(3) * u for s, u in zip(signs, maps.values(), strict=True))
        assert stretch(together).min() > 0.5, signs


def test_tilt_turns_the_whole_section(atlas):
    down, across = deformation_maps(atlas)["tilt"]
    (yy, yx), (xy, xx) = np.gradient(down), np.gradient(across)
    np.testing.assert_allclose(yx, -xy, atol=1e-5)
    np.testing.assert_allclose(yx, yx[0, 0], atol=1e-5)
    assert yx[0, 0] > 0 and np.abs([yy, xx]).max() < 1e-5


def test_the_hippocampi_turn_in_mirrored_directions(atlas):
    down, across = deformation_maps(atlas)["twist_hippocampus"]
    np.testing.assert_allclose(down, down[:, ::-1], atol=1e-4)
    np.testing.assert_allclose(across, -across[:, ::-1], atol=1e-4)
    turn = np.gradient(down, axis=1) - np.gradient(across, axis=0)
    left, right = (atlas.roi_masks(["HPF"], side=side)[0] for side in ("left", "right"))
    assert turn[left].mean() > 0.01 and turn[right].mean() < -0.01
    assert np.hypot(down, across)[atlas.roi_masks(["HY"])[0]].max() < 0.02


def test_the_midline_moves_sideways_and_the_ventral_surface_down(atlas):
    maps = deformation_maps(atlas)
    down, across = maps["midline_shift"]
    assert not down.any() and across.min() >= 0 and set(across.argmax(axis=1)) <= {55, 56}
    assert across[:, :20].max() < 0.01 * across.max()
    down, across = maps["sag_ventral"]
    assert not across.any() and down.min() >= 0
    assert down[:25].max() == 0 and (np.diff(down, axis=0) >= -1e-6).all()


def test_tissue_moves_the_way_its_map_says_and_as_far(atlas):
    low, high = (section(atlas, sag_ventral=size)[:, 50:62].mean(axis=1) for size in (-2.0, 2.0))
    moved = np.flatnonzero(high > 0.1)[-1] - np.flatnonzero(low > 0.1)[-1]
    assert moved == pytest.approx(4 * DISPLACED_MM["sag_ventral"] * 1000 / atlas.pixel_um, abs=1)
    low, high = (section(atlas, midline_shift=size)[45:65] for size in (-2.0, 2.0))
    columns = slice(50, 62)  # the third ventricle is the darkest
    moved = high[:, columns].mean(axis=0).argmin() - low[:, columns].mean(axis=0).argmin()
    assert moved == pytest.approx(4 * DISPLACED_MM["midline_shift"] * 1000 / atlas.pixel_um, abs=1)


# ---- what is no factor ----


def residuals(monkeypatch, atlas, n=200, **values):
    nuisances(monkeypatch, **values)
    cohort = simulate_freeform(n, shape=SHAPE, artefact_share=0, seed=3)
    base = rendered_freeform(cohort.factors, atlas)
    return base, cohort.clean - base


def test_streaks_run_across_and_are_skewed(monkeypatch, atlas):
    base, rest = residuals(monkeypatch, atlas, STREAKS=0.05)
    streaks = rest[:, atlas.roi_masks(["TH"])[0]] / base[:, atlas.roi_masks(["TH"])[0]]
    assert streaks.mean() == pytest.approx(0, abs=2e-3)
    assert streaks.std() == pytest.approx(0.05, rel=0.1)
    assert pd.Series(streaks.ravel()).skew() > 0.3
    middle = (rest / np.maximum(base, 1e-3))[:, 30:50, 40:72]
    down, across = (
        (np.take(middle, range(15), axis) * np.take(middle, range(3, 18), axis)).mean()
        for axis in (1, 2)
    )
    assert across > 0.5 * 0.05**2 > 5 * down


def test_noise_grows_with_brightness(monkeypatch, atlas):
    base, rest = residuals(monkeypatch, atlas, NOISE=0.02)
    bright, dim = (rest[(base > low) & (base < low + 0.05)].std() for low in (0.55, 0.15))
    assert bright == pytest.approx(0.01 * np.sqrt(0.675), rel=0.05)  # at 0.1 mm half of 0.02
    assert dim == pytest.approx(0.01 * np.sqrt(0.275), rel=0.05)
    assert rest.std(axis=0).min() > 1e-3  # no pixel is the same in every brain


def test_light_falls_from_one_end_of_the_brain_to_the_other(monkeypatch, atlas):
    base, rest = residuals(monkeypatch, atlas, LIGHT=0.05)
    rows = np.flatnonzero(atlas.brain_mask.any(axis=1))
    total = np.log((base + rest)[:, rows].sum(axis=2) / base[:, rows].sum(axis=2))
    slope = total[:, -1]
    assert slope.std() == pytest.approx(0.05, rel=0.2)
    expected = slope[:, None] * np.linspace(-1, 1, rows.size)
    np.testing.assert_allclose(total, expected, atol=1e-4)


# ---- artefacts, and what is done with a cohort ----


def test_the_share_of_artefacts_is_exact_and_their_kinds_are_equal(cohort):
    kinds = cohort.metadata["artefact"].value_counts()
    assert kinds.to_dict() == {"none": 340, "leak": 20, "breakage": 20, "grid": 20}


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.15, 6), (1, 37)])
def test_any_share_is_kept(share, expected):
    metadata = simulate_freeform(37, shape=(40, 56), artefact_share=share, seed=0).metadata
    corrupted = (metadata["artefact"] != "none").to_numpy()
    assert corrupted.sum() == expected
    assert np.array_equal((metadata["artefact_strength"] > 0).to_numpy(), corrupted)


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
    for structure in INJECTED:
        mask = cohort.atlas.roi_masks([structure], side="right")[0]
        here = (cohort.metadata["injection_structure"] == structure).to_numpy()
        assert mask[rows[here], columns[here]].all()


def test_the_clean_rule_tells_its_artefacts(cohort):
    clean = (cohort.metadata["artefact"] == "none").to_numpy()
    passed = artefact_free(cohort)
    assert passed[clean].mean() > 0.97 and passed[~clean].mean() < 0.2
    assert (artefact_free(judged(cohort))[clean]).mean() > 0.97


def test_it_is_kept_and_new_brains_are_brought_to_it(cohort, tmp_path):
    opened = open_cohort(cohort.save(tmp_path / "freeform.zarr"))
    assert opened.fingerprint == cohort.fingerprint and opened.name == cohort.name
    np.testing.assert_array_equal(opened.clean, cohort.clean)
    pd.testing.assert_frame_equal(opened.factors, cohort.factors)
    pd.testing.assert_frame_equal(known_factors(opened), cohort.factors.astype(float))
    other = simulate_freeform(2, cohort.atlas, seed=6).images[0]
    found = comparable_section(other, opened.atlas, Preprocessing.of(opened))
    assert found.shape == SHAPE and 0 <= found.min() < found.max() <= 1
    corrupted = corrupted_brains(opened)
    assert (corrupted.metadata["artefact"] != "none").all() and len(corrupted)


# ---- what it refuses ----


@pytest.mark.parametrize("n", [1, 0, -3])
def test_too_few_brains_are_refused(n):
    with pytest.raises(ValueError, match=f"^n_brains={n}: a cohort has at least 2 brains$"):
        simulate_freeform(n)


@pytest.mark.parametrize("share", [-0.1, 1.5, np.nan])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match=r"^artefact_share=.* is outside \[0, 1\]$"):
        simulate_freeform(4, artefact_share=share)


def test_a_shape_that_is_no_whole_reduction_is_refused():
    with pytest.raises(ValueError, match="320×448 to 100×140.*160×224, 80×112"):
        simulate_freeform(4, shape=(100, 140))


def test_a_missing_factor_is_refused(cohort, atlas):
    with pytest.raises(ValueError, match="^factors lack tilt; give all of offset_RSP, .*, tilt$"):
        rendered_freeform(cohort.factors.drop(columns="tilt"), atlas)


@pytest.mark.parametrize("side", ["both", "left"])
@pytest.mark.parametrize("region", ["SSp", "HPF"])
def test_an_atlas_without_a_region_is_refused(atlas, region, side):
    cc = int(atlas.structures.set_index("acronym").loc["cc", "id"])
    mask = atlas.roi_masks([region], side=side)[0]
    annotation = np.where(mask, np.uint32(cc), atlas.annotation)
    with pytest.raises(ValueError, match=f"{region} exists but has no pixel in atlas 'drawn"):
        simulate_freeform(4, replace(atlas, annotation=annotation))
