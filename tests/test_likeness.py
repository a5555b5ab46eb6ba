"""Of which kind a difference looks: planted ones, none, and designs that ask nothing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy.stats import f_oneway, ttest_ind

from brainvae_core.cohorts import FACTORS, drawn_atlas
from brainvae_core.cohorts.simulated import ANATOMICAL
from brainvae_core.metrics import Design, difference_kind, section_changes
from brainvae_core.metrics.groups import basis_of
from brainvae_core.metrics.likeness import KINDS, _statistics

rendered = ANATOMICAL.rendered
ATLAS = drawn_atlas().resampled((80, 112))
REGIONS = dict(zip(ATLAS.regions(), ATLAS.roi_masks(ATLAS.regions()), strict=True))
N = 20
TESTED = np.array([False, True])
GROUPS = np.column_stack([np.ones(N), np.arange(N) >= N // 2])


def drawn(n, seed, **planted):
    """Sections of planted factors that vary a little in all of them, with noise."""
    rng = np.random.default_rng(seed)
    factors = pd.DataFrame(0.3 * rng.standard_normal((n, len(FACTORS))), columns=list(FACTORS))
    images = rendered(factors.assign(**{f: factors[f] + by for f, by in planted.items()}), ATLAS)
    return (images + rng.normal(0, 0.01, images.shape)).clip(0, 1).astype(np.float32)


MEAN = drawn(40, 99).mean(axis=0)
AXIS = rendered(pd.DataFrame(0.0, range(2), list(FACTORS)).assign(ap_position=[0.0, 1]), ATLAS)
PLANE = AXIS[1] - AXIS[0]


def measured(images, plane_change=PLANE):
    return section_changes(images, MEAN, ATLAS.brain_mask, REGIONS, ATLAS.pixel_um, plane_change)


def design_of_second(matrix, tested=TESTED):
    """A design of which the second column is asked about."""
    columns = [f"column {i}" for i in range(matrix.shape[1])]
    return Design("group", "b − a", columns, matrix, tested, pd.RangeIndex(len(matrix)))


def table_of(rng, n, shift=0.0, kind="anatomy"):
    """Three measures a kind that are noise, one kind's with a difference between the groups."""
    columns = pd.MultiIndex.from_product([KINDS, list("abc")], names=["kind", "measure"])
    changes = pd.DataFrame(rng.standard_exponential((n, 12)), columns=columns)
    changes[kind] += shift * (np.arange(n) >= n // 2)[:, None]
    return changes


# ---- planted differences ----


@pytest.mark.parametrize(
    "kind, planted",
    [
        ("anatomy", {"cortical_thickness": 1}),
        ("anatomy", {"ventricle_size": 1}),
        ("brightness", {"brightness": 1}),
        ("brightness", {"brightness_HPF": 0.8}),
        ("registration", {"brain_height": -1}),
        ("registration", {"brain_width": 1}),
        ("registration", {"ap_position": 1}),
        ("no difference", {}),
    ],
)
def test_a_planted_difference_is_told_for_what_it_is(kind, planted):
    images = drawn(N, 3, **{f: by * GROUPS[:, 1] for f, by in planted.items()})
    found = difference_kind(measured(images), design_of_second(GROUPS), n_permutations=299)
    assert found.kind == kind
    assert set(found.table["kind"]) == {*KINDS}
    assert found.table["share"].sum() == pytest.approx(1)
    assert (found.table["low"] <= found.table["share"]).all()
    assert (found.table["share"] <= found.table["high"]).all()
    assert (found.table["p_family"] >= found.table["p"]).all()


def test_holes_in_one_group_are_damage_and_move_no_other_measure():
    images = drawn(N, 2)
    whole = measured(images)
    for i in range(N // 2, N - 2):  # each elsewhere, with tissue around
        images[i, 24 + 2 * i : 32 + 2 * i, 20 + 3 * i : 28 + 3 * i] = 0
    holed = measured(images)
    assert difference_kind(holed, design_of_second(GROUPS)).kind == "damage"
    share, there = holed["damage"].iloc[:, 0], np.arange(N)
    there = (there >= N // 2) & (there < N - 2)
    assert share[there].min() > share[~there].max()
    moved = (holed - whole)["registration"].drop(columns="plane")
    assert moved.abs().max().max() < 20  # µm, a fifth of a pixel


def test_a_rule_of_another_kind_can_name_the_damaged_brains():
    changes = table_of(np.random.default_rng(3), 30)
    late = np.arange(30) >= 15
    design = np.column_stack([np.ones(30), late])
    found = difference_kind(changes, design_of_second(design), flagged=late & (np.arange(30) != 20))
    assert found.kind == "damage" and found.table["measure"][0] == "flagged"
    assert found.table["value"][0] == pytest.approx(14 / 15)


def test_without_the_next_plane_another_plane_looks_like_anatomy():
    changes = measured(drawn(N, 3, ap_position=1.5 * GROUPS[:, 1]), None)
    assert "plane" not in changes["registration"]
    assert difference_kind(changes, design_of_second(GROUPS)).kind == "anatomy"


# ---- what is measured ----


def test_a_measure_is_what_was_planted():
    still = pd.DataFrame(0.0, range(4), list(FACTORS))
    still.loc[3, ["brain_height", "brain_width", "brightness"]] = [1, -0.5, 0.5]
    found = section_changes(
        rendered(still, ATLAS), rendered(still, ATLAS)[0], ATLAS.brain_mask, REGIONS, 100
    )
    assert found["registration"]["height"][3] == pytest.approx(70, rel=0.15)  # µm at the surface
    assert found["registration"]["width"][3] == pytest.approx(-45, rel=0.15)
    assert found["brightness"]["overall"][3] == pytest.approx(0.04, rel=0.25)  # log gain
    np.testing.assert_allclose(found[["anatomy", "brightness", "registration"]][:3], 0, atol=1e-4)


def test_tissue_is_called_by_the_region_that_has_most_of_it():
    (name, mask), *_ = REGIONS.items()
    found = section_changes(drawn(2, 5), MEAN, ATLAS.brain_mask, {name: mask}, ATLAS.pixel_um)
    assert {measure.split()[0] for measure in found["anatomy"]} == {name, "tissue"}
    assert not any(measure.startswith("tissue") for measure in measured(drawn(2, 5))["anatomy"])


def test_what_all_brains_share_is_no_difference():
    images = drawn(6, 5)
    dimmer, brighter = measured(images * 0.8), measured(images * 0.8 + 0.1)
    pd.testing.assert_frame_equal(dimmer, brighter, rtol=1e-3, atol=1e-3)


# ---- tests ----


@settings(deadline=None)
@given(seed=st.integers(0, 2**16), n_a=st.integers(3, 9), n_b=st.integers(3, 9))
def test_statistics_are_those_of_scipy(seed, n_a, n_b):
    rng = np.random.default_rng(seed)
    values, group = rng.normal(size=(n_a + n_b, 4)), np.arange(n_a + n_b) >= n_a
    order = rng.permutation(n_a + n_b)
    design = np.column_stack([np.ones(n_a + n_b), group])
    orders = np.stack([np.arange(n_a + n_b), order])
    found = _statistics(values, basis_of(design, TESTED)[0], 1, orders)
    for statistic, of in zip(found, (group, group[order]), strict=True):
        np.testing.assert_allclose(statistic, abs(ttest_ind(values[of], values[~of]).statistic))

    third = np.arange(n_a + n_b) % 3
    design = np.column_stack([np.ones(n_a + n_b), third == 1, third == 2])
    expected = f_oneway(*(values[third == i] for i in range(3))).statistic
    basis, _ = basis_of(design, np.array([False, True, True]))
    found = _statistics(values, basis, 2, orders[:1])
    np.testing.assert_allclose(found[0] ** 2, expected)


def test_two_kinds_alike_are_not_told():
    changes = table_of(np.random.default_rng(8), 40, shift=2)
    changes["brightness"] = changes["anatomy"].to_numpy()
    design = np.column_stack([np.ones(40), np.arange(40) >= 20])
    assert difference_kind(changes, design_of_second(design)).kind == "cannot tell"


def test_refusals():
    changes = table_of(np.random.default_rng(9), N)
    images, mask, groups = drawn(3, 9), ATLAS.brain_mask, design_of_second(GROUPS)
    refused(
        [
            ("are of 19 brains and the design of 20", difference_kind, changes[1:], groups),
            ("kinds of measures", difference_kind, changes[["anatomy"]], groups),
            ("no measure differs", difference_kind, changes * 0, groups),
            ("DG .*one shape", section_changes, images, MEAN, mask, {"DG": mask[1:]}, 100),
            ("0.5 mm thick", section_changes, images, MEAN, mask, {}, 100),
            ("pixel_um=0", section_changes, images, MEAN, mask, REGIONS, 0),
            ("mask is empty", section_changes, images, MEAN, mask & False, REGIONS, 100),
            ("flagged", lambda: difference_kind(changes, groups, flagged=np.ones(3, dtype=bool))),
            ("at least 19", lambda: difference_kind(changes, groups, n_permutations=18)),
        ]
    )
