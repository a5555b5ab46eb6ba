"""Raw sections made comparable, outliers, a brain of one's own, and the rule for clean brains."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import shift

from brainvae_core.cohorts import drawn_atlas, open_cohort, simulate
from brainvae_core.cohorts.artefacts import (
    CLEAN_LIMIT,
    artefact_free,
    artefact_scores,
    is_outlier,
    median_section,
    reference_brains,
)
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.cohorts.cohort import SET_ASIDE, split_of
from brainvae_core.cohorts.preprocess import (
    SPREAD_FLOOR,
    Preprocessing,
    comparable_section,
    judged,
    preprocess,
)

SHAPE = (80, 112)
N = 60
HALF, MOVED = 11, 23  # brains that `ruined` ruins


@pytest.fixture(scope="module")
def atlas():
    return drawn_atlas().resampled(SHAPE)


@pytest.fixture(scope="module")
def cohort():
    return simulate(300, shape=SHAPE, seed=4)


@pytest.fixture(scope="module")
def is_train(cohort):
    return (cohort.metadata["split"] == "train").to_numpy()


@pytest.fixture(scope="module")
def drawn():
    """Sections in raw greys by known gains, and what they were: no artefact anywhere."""
    brains = simulate(N, shape=SHAPE, artefact_share=0, seed=2)
    gains = np.random.default_rng(5).uniform(0.6, 1.6, N)
    raw = (brains.images * 20_000 * gains[:, None, None]).astype(np.float32)
    return raw, brains.metadata.drop(columns=["split", "artefact"]), gains


@pytest.fixture(scope="module")
def ruined(drawn):
    raw, metadata, _ = drawn
    raw = raw.copy()
    raw[HALF, :, :56] = 0
    raw[MOVED] = shift(raw[MOVED], (10, 0), order=1)  # 1 mm
    return raw, metadata


def made(raw, metadata, atlas, **options):
    return preprocess(raw, metadata, atlas, **{"seed": 3, "name": "raw", **options})


# ---- a cohort from raw sections ----


def test_gains_are_undone_exactly(drawn, atlas):
    raw, metadata, gains = drawn
    before, columns = raw.copy(), list(metadata)
    found = made(raw, metadata, atlas)
    assert np.array_equal(raw, before) and list(metadata) == columns
    same = made(raw / gains[:, None, None], metadata, atlas)
    np.testing.assert_allclose(found.images, same.images, rtol=1e-4, atol=1e-6)
    inside = raw[:, atlas.brain_mask].mean(axis=1)
    target = found.preprocessing["brightness"]
    np.testing.assert_allclose(found.metadata["gain"] * inside, target, rtol=1e-5)
    train = (found.metadata["split"] == "train").to_numpy()
    assert target == pytest.approx(inside[train].mean(), rel=1e-5)


def test_images_are_greys_over_white(drawn, atlas):
    raw, metadata, _ = drawn
    found = made(raw, metadata, atlas)
    gain = found.metadata["gain"].to_numpy()[:, None, None]
    expected = np.clip(raw * gain / found.preprocessing["white"], 0, 1)
    np.testing.assert_allclose(found.images, expected, rtol=1e-5)
    adjusted = (raw * gain)[(found.metadata["split"] == "train").to_numpy()]
    tops = np.percentile(adjusted[:, atlas.brain_mask], 99.9, axis=1)
    assert found.preprocessing["white"] == pytest.approx(np.median(tops), rel=1e-5)
    for seed in (0, 8):
        split = made(raw, metadata, atlas, seed=seed, refused={"x": "why"})
        assert split.metadata["split"].equals(split_of(metadata.index, seed).rename("split"))
        assert split.refused == {"x": "why"}


def test_sections_of_the_whole_plane_are_cropped_and_reduced(atlas):
    fine = drawn_atlas()
    brains = simulate(8, shape=(160, 224), artefact_share=0, seed=1)
    sections = [
        np.pad(np.kron(image * 9000, np.ones((2, 2))), ((0, 0), (4, 4)), constant_values=9999)
        for image in brains.images
    ]
    sections = [section.astype(np.uint16) for section in sections]
    metadata = brains.metadata[["sex"]]
    cropped = [section[:, 4:452] for section in sections]
    small = made(sections, metadata, fine, shape=SHAPE)
    assert small.images.shape == (8, *SHAPE) and small.atlas.pixel_um == 100
    assert np.array_equal(small.images, made(cropped, metadata, fine, shape=SHAPE).images)
    assert made(np.stack(sections), metadata, fine).images.shape == (8, 320, 448)


@settings(max_examples=8, deadline=None)
@given(k=st.floats(1e-3, 1e3))
def test_the_unit_of_grey_changes_nothing(k):
    brains = simulate(12, shape=(40, 56), artefact_share=0, seed=6)
    metadata = brains.metadata[["sex"]]
    once, again = (preprocess(brains.images * s, metadata, brains.atlas) for s in (1, k))
    np.testing.assert_allclose(again.images, once.images, rtol=1e-4, atol=1e-6)
    assert again.metadata["outlier"].equals(once.metadata["outlier"])
    np.testing.assert_allclose(again.metadata["gain"], once.metadata["gain"], rtol=1e-5)


def test_only_training_brains_are_fitted(drawn, atlas):
    raw, metadata, _ = drawn
    before = made(raw, metadata, atlas)
    changed = raw.copy()
    judged = np.flatnonzero(before.metadata["split"] != "train")
    changed[judged] = np.random.default_rng(0).random((len(judged), *SHAPE)) * 60_000
    for options in ({}, {"clip_pixels": False}, {"drop_brains": True}):
        before, after = (made(r, metadata, atlas, **options) for r in (raw, changed))
        assert after.preprocessing == before.preprocessing
        train = (split_of(metadata.index, 3) == "train").to_numpy()
        assert np.array_equal(after.images[train], before.images[train])
        z = [f"{s}_z" for s in SPREAD_FLOOR] + ["leak_score", "breakage_score", "grid_score"]
        pd.testing.assert_frame_equal(after.metadata.loc[train, z], before.metadata.loc[train, z])
    brain = int(np.flatnonzero(train)[0])
    changed = raw.copy()
    changed[brain] *= 2
    assert (
        made(changed, metadata, atlas).preprocessing["brightness"]
        > (before.preprocessing["brightness"])
    )


@pytest.mark.parametrize("brain", [0, HALF, MOVED])
@pytest.mark.parametrize("clip", [True, False])
def test_a_new_brain_comes_out_as_it_did_in_the_cohort(ruined, atlas, brain, clip):
    raw, metadata = ruined
    found = made(raw, metadata, atlas, clip_pixels=clip)
    again = comparable_section(raw[brain], atlas, Preprocessing.of(found))
    np.testing.assert_allclose(again, found.images[brain], rtol=1e-6, atol=1e-7)


# ---- outliers ----


def test_ruined_brains_are_flagged_and_ordinary_ones_are_not(ruined, atlas):
    raw, metadata = ruined
    reasons = made(raw, metadata, atlas).metadata["outlier"]
    assert reasons.iloc[HALF] == "difference, missing, saturated"
    assert reasons.iloc[MOVED] == "difference, missing"
    assert (reasons.drop(reasons.index[[HALF, MOVED]]) == "none").all()


def test_each_statistic_answers_to_its_fault(drawn, atlas):
    raw, metadata, _ = drawn
    raw = raw.copy()
    own = raw[:, atlas.brain_mask].mean(axis=1)
    raw[1] *= 40 * own.mean() / own[1]
    raw[2] /= 40 * own[2] / own.mean()
    raw[4, 30:55, 20:45] = 0
    raw[5, 30:55, 20:45] = raw[5].max() * 1.3
    z = made(raw, metadata, atlas).metadata[[f"{s}_z" for s in SPREAD_FLOOR]]
    assert z["gain_z"].iloc[1] < -6 and z["gain_z"].iloc[2] > 6
    assert z["missing_z"].iloc[4] > 6 and z["saturated_z"].iloc[5] > 6
    reasons = made(raw, metadata, atlas).metadata["outlier"]
    assert reasons.iloc[1] == reasons.iloc[2] == "gain"


def test_statistics_by_hand(drawn, atlas):
    raw, metadata, _ = drawn
    found = made(raw, metadata, atlas)
    train = (found.metadata["split"] == "train").to_numpy()
    inside = raw[:, atlas.brain_mask].astype(float)
    target = inside.mean(axis=1)[train].mean()
    adjusted = inside * (target / inside.mean(axis=1))[:, None]
    bright = np.median(np.percentile(adjusted[train], 99.9, axis=1))
    rest = np.minimum(adjusted, bright) - np.median(np.minimum(adjusted, bright)[train], axis=0)
    expected = {
        "difference": np.sqrt((rest**2).mean(axis=1)) / target,
        "missing": (adjusted < target / 5).mean(axis=1),
        "saturated": (adjusted > bright).mean(axis=1),
        "gain": np.log(target / inside.mean(axis=1)),
    }
    for name, values in expected.items():
        centre = np.median(values[train])
        spread = 1.4826 * np.median(np.abs(values[train] - centre))
        z = (values - centre) / max(spread, SPREAD_FLOOR[name])
        np.testing.assert_allclose(found.metadata[f"{name}_z"], z, atol=2e-2)


def test_the_limit_is_the_limit(drawn, atlas):
    raw, metadata, _ = drawn
    z = made(raw, metadata, atlas).metadata[["difference_z", "missing_z", "saturated_z", "gain_z"]]
    worst = z.assign(gain_z=z["gain_z"].abs()).max(axis=1)
    limit = float(np.sort(worst)[-3])
    strict = made(raw, metadata, atlas, outlier_limit=limit).metadata["outlier"]
    assert (strict != "none").sum() == 3


def test_clipping_and_dropping_are_two_switches(ruined, atlas):
    raw, metadata = ruined
    found = {
        (clip, drop): made(raw, metadata, atlas, clip_pixels=clip, drop_brains=drop)
        for clip in (True, False)
        for drop in (True, False)
    }
    split = split_of(metadata.index, 3)
    for (clip, drop), one in found.items():
        z = [f"{s}_z" for s in SPREAD_FLOOR] + ["gain", "outlier"]
        pd.testing.assert_frame_equal(one.metadata[z], found[True, False].metadata[z])
        aside = one.metadata["split"] == SET_ASIDE
        assert np.flatnonzero(aside).tolist() == ([HALF, MOVED] if drop else [])
        assert one.metadata["split"][~aside].equals(split[~aside].rename("split"))
        assert len(one.split(SET_ASIDE)) == 2 * drop
        ordinary = (one.metadata["split"] == "train").to_numpy() & artefact_free(one)
        touched = (one.images[ordinary] == 1).mean(axis=(1, 2))
        assert (touched.mean() > 2e-4) if clip else (touched.sum() <= 1 / 80 / 112)
    assert np.array_equal(found[True, True].images, found[True, False].images)
    assert found[False, False].images[HALF].max() == 1  # the ruined one is the brightest of all
    whites = {clip: found[clip, True].preprocessing["white"] for clip in (True, False)}
    assert whites[True] < whites[False] == found[False, False].preprocessing["white"]


def test_ruined_brains_do_not_spoil_the_reference(ruined, atlas, drawn):
    raw, metadata = ruined
    found = made(raw, metadata, atlas)
    assert not reference_brains(found.metadata)[[HALF, MOVED]].any()
    ordinary = np.ones(N, dtype=bool)
    ordinary[[HALF, MOVED]] = False
    reference = ordinary & (found.metadata["split"] == "train").to_numpy()
    # The rule sees brains before clipping, whether pixels are clipped later or not.
    adjusted = raw * found.metadata["gain"].to_numpy()[:, None, None]
    scores = artefact_scores(block_mean(adjusted, raw.shape[1] // SHAPE[0]), reference, atlas)
    columns = ["leak_score", "breakage_score", "grid_score"]
    np.testing.assert_allclose(found.metadata[columns], scores, rtol=1e-4, atol=1e-5)


def test_brains_that_are_all_alike_have_no_outlier(atlas):
    one = simulate(2, shape=SHAPE, artefact_share=0, seed=0).images[0]
    brains = pd.DataFrame(index=pd.Index([f"b{i}" for i in range(9)], name="brain"))
    found = made(np.repeat(one[None], 9, axis=0), brains, atlas)
    z = found.metadata[[f"{s}_z" for s in SPREAD_FLOOR]].to_numpy()
    assert np.array_equal(z, np.zeros((9, 4)))
    assert (found.metadata["outlier"] == "none").all()
    assert (found.metadata["artefact"] == "none").all()
    assert np.isfinite(found.metadata[["leak_score", "breakage_score", "grid_score"]]).all(
        axis=None
    )


def test_suspected_artefacts_are_the_highest_score(cohort, atlas):
    raw = cohort.images * 4000
    metadata = cohort.metadata.rename(columns={"artefact": "truth"})
    found = made(raw, metadata, atlas, seed=4).metadata
    scores = found[["leak_score", "breakage_score", "grid_score"]].to_numpy()
    kinds = np.array(["leak", "breakage", "grid"])[scores.argmax(axis=1)]
    expected = np.where(scores.max(axis=1) < 4, "none", kinds)
    assert found["artefact"].tolist() == expected.tolist()
    named = found["truth"] == found["artefact"]
    assert named[found["truth"] == "none"].mean() > 0.95
    assert named[found["truth"] != "none"].mean() > 0.75
    truth = made(raw, cohort.metadata, atlas, seed=4).metadata["artefact"]
    assert truth.equals(cohort.metadata["artefact"])


def test_a_saved_cohort_still_knows_its_outliers(ruined, atlas, tmp_path):
    raw, metadata = ruined
    found = made(raw, metadata, atlas, drop_brains=True)
    again = open_cohort(found.save(tmp_path / "raw"))
    assert again.preprocessing == found.preprocessing
    assert np.flatnonzero(is_outlier(again.metadata)).tolist() == [HALF, MOVED]
    assert np.array_equal(reference_brains(again.metadata), reference_brains(found.metadata))
    assert Preprocessing.of(again) == Preprocessing.of(found)


# ---- what is refused ----


SPOILT = {
    "NaN": (lambda s: np.where(np.arange(112) == 50, np.nan, s), "NaN or infinite"),
    "infinite": (lambda s: np.where(np.arange(112) == 50, np.inf, s), "NaN or infinite"),
    "black": (lambda s: np.zeros(SHAPE), "no brightness inside the brain; is it registered?"),
    "constant": (lambda s: np.full(SHAPE, 5.0), "no brightness inside the brain"),
    "negative": (lambda s: np.full((320, 456), -1.0), "no brightness inside the brain"),
    **{
        f"shape {shape}": (
            lambda s, shape=shape: np.random.default_rng(0).random(shape),
            r"does not fit the cohort's \(80, 112\); 320 × 456",
        )
        for shape in ((80, 111), (456, 320), (320, 450), (40, 56), (100, 112), (320,), (3, 4, 5))
    },
}


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_a_bad_section_is_refused_and_in_a_cohort_by_its_brain(drawn, atlas, spoil, words):
    raw, metadata, _ = drawn
    sections = list(raw)
    sections[7] = spoil(sections[7])
    with pytest.raises(ValueError, match=f"^brain 'sim-00007': .*{words}") as refusal:
        made(sections, metadata, atlas)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match=words):
        comparable_section(sections[7], atlas, greys(0.3))


def test_brains_that_make_no_cohort_are_refused(drawn, atlas):
    raw, metadata, _ = drawn
    assert len(made(raw[:4], metadata[:4], atlas, outlier_limit=20)) == 4
    twice = metadata.rename(index={"sim-00003": "sim-00007"})
    few = "2 of 3 training brains are no outliers and 3 are needed.*outlier_limit=6"
    for brains, rows, words in (
        (raw, metadata[:-1], "60 sections and 59 rows of metadata"),
        (raw, twice, r"ids must be unique; \['sim-00007'\] occur twice"),
        (raw[:4], metadata[:4], few),
        (raw[:3], metadata[:3], "2 training brains are too few to preprocess; give"),
        (raw, metadata.assign(split="val"), r"metadata has split \['val'\]; train, "),
    ):
        with pytest.raises(ValueError, match=words):
            made(brains, rows, atlas)


# ---- the record ----


def test_a_preprocessing_goes_through_json(ruined, atlas):
    found = Preprocessing.of(made(*ruined, atlas))
    written = json.dumps(found.to_dict())
    assert Preprocessing.from_dict(json.loads(written)) == found
    assert len(written) < 1000
    assert set(found.centre) == set(found.spread) == set(SPREAD_FLOOR)


def test_a_strange_record_is_refused():
    good = Preprocessing(brightness=3.0, white=9.0).to_dict()
    for change, words in (
        ({"format": 99}, "preprocessing has format 99; this library reads 1"),
        ({"colour": 1}, r"unknown entries \['colour'\]"),
        ({"white": 0.0}, "white=0.0 of a preprocessing must be positive"),
        ({"brightness": float("nan")}, "brightness=nan of a preprocessing"),
    ):
        with pytest.raises(ValueError, match=words):
            Preprocessing.from_dict({**good, **change})
    with pytest.raises(ValueError, match=r"missing or unknown entries \['white'\]"):
        Preprocessing.from_dict({k: v for k, v in good.items() if k != "white"})
    with pytest.raises(ValueError, match="outlier_limit=-1"):
        Preprocessing(brightness=3.0, white=9.0, outlier_limit=-1)


def test_a_simulated_cohort_stays_as_it_is(cohort, is_train):
    found = Preprocessing.of(cohort)
    assert found.white == 1
    train = cohort.images[is_train][:, cohort.atlas.brain_mask]
    assert found.brightness == pytest.approx(train.mean(), rel=1e-5)
    other = comparable_section(cohort.images[3], cohort.atlas, found)
    own = cohort.images[3][cohort.atlas.brain_mask].mean()
    expected = np.clip(cohort.images[3] * (found.brightness / own), 0, 1)
    np.testing.assert_allclose(other, expected, rtol=1e-5)


# ---- a comparable section ----


def greys(brightness, white=1.0):
    return Preprocessing(brightness, white)


def registered(width=456, seed=0):
    """A section on the 25 µm grid in 16-bit greys, by columns that are told apart."""
    section = np.zeros((320, width))
    start = (width - 448) // 2
    section[:, start : start + 448] = 20_000 * drawn_atlas().template + 100
    return section + np.random.default_rng(seed).random((320, width)) * 50


def test_columns_4_to_452_are_kept_and_averaged_in_blocks(atlas):
    section = registered()
    found = comparable_section(section, atlas, greys(0.2))
    by_hand = np.array(
        [
            [section[4 * i : 4 * i + 4, 4 + 4 * j : 8 + 4 * j].mean() for j in range(112)]
            for i in range(80)
        ]
    )
    assert found.dtype == np.float32 and found.shape == SHAPE
    scale = 0.2 / by_hand[atlas.brain_mask].mean()
    np.testing.assert_allclose(found, by_hand * scale, rtol=1e-4)
    assert found.max() < 1 and found[atlas.brain_mask].mean() == pytest.approx(0.2, rel=1e-5)
    # In any unit of grey, cropped before, on the cohort's own grid and at full size.
    dim = comparable_section(section * 1e-4, atlas, greys(0.2))
    np.testing.assert_allclose(dim, found, rtol=1e-5)
    of_integers = comparable_section(section.astype(np.uint16), atlas, greys(0.2))
    np.testing.assert_allclose(of_integers, found, atol=2e-3)
    assert np.array_equal(comparable_section(section[:, 4:452], atlas, greys(0.2)), found)
    again = comparable_section(found, atlas, greys(0.2))
    np.testing.assert_allclose(again, found, rtol=1e-5)
    assert comparable_section(section, drawn_atlas(), greys(0.2)).shape == (320, 448)
    section[100:108, 200:208], section[0, 0] = 60_000, -30
    found = comparable_section(section, atlas, greys(0.4))
    assert found.max() == 1 and found.min() >= 0


# ---- clean brains ----


def passed(images, is_reference, atlas):
    return (artefact_scores(images, is_reference, atlas) < CLEAN_LIMIT).all(axis=1)


def test_planted_artefacts_are_found_and_clean_brains_are_kept(cohort, is_train):
    clean = artefact_free(cohort)
    assert np.array_equal(clean, passed(cohort.images, is_train, cohort.atlas))
    share = pd.Series(~clean).groupby(cohort.metadata["artefact"].to_numpy()).mean()
    assert share["breakage"] >= 0.85 and share["grid"] >= 0.85
    assert share["leak"] >= 0.5  # weak leaks over bright tissue stay hidden
    assert share["none"] <= 0.05
    assert passed(cohort.clean, is_train, cohort.atlas).mean() >= 0.95  # it never sees the truth
    expected = np.median(cohort.images[is_train], axis=0)
    assert np.array_equal(median_section(cohort.images, is_train), expected)


def test_a_reference_of_other_brains_or_too_few_is_refused(cohort, is_train):
    only_two = np.arange(300) < 2
    for wrong, words in (
        (np.flatnonzero(is_train), "is_reference must be 300 booleans, one a brain"),
        (is_train[:-1], "is_reference must be 300 booleans"),
        (is_train.astype(int), "is_reference must be 300 booleans"),
        (only_two, "2 reference brains have no spread.*3 or more"),
    ):
        with pytest.raises(ValueError, match=words):
            artefact_scores(cohort.images, wrong, cohort.atlas)


def test_brains_that_are_judged_do_not_change_the_rule(cohort, is_train):
    judged = np.flatnonzero(~is_train)
    apart = np.concatenate([np.flatnonzero(is_train), judged[:5]])
    together = artefact_scores(cohort.images, is_train, cohort.atlas)[apart]
    alone = artefact_scores(cohort.images[apart], is_train[apart], cohort.atlas)
    np.testing.assert_allclose(alone, together, rtol=1e-3, atol=1e-3)


def test_each_score_answers_to_its_artefact(cohort, is_train):
    brain = np.flatnonzero((cohort.metadata["artefact"] == "none").to_numpy() & ~is_train)[0]
    planted = np.repeat(cohort.clean[brain][None], 4, axis=0)
    planted[1, 42:52, 48:58] = 1.0
    planted[2, 42:52, 48:58] = 0.0
    planted[3, :, ::9] *= 0.5
    images = np.concatenate([cohort.images, planted])
    reference = np.concatenate([is_train, np.zeros(4, dtype=bool)])
    base, *scores = artefact_scores(images, reference, cohort.atlas)[-4:]
    assert (base < CLEAN_LIMIT).all()
    assert (np.diag(scores) > CLEAN_LIMIT).all()
    assert np.argmax(scores, axis=1).tolist() == [0, 1, 2]
    clean = passed(images, reference, cohort.atlas)[-4:]
    assert clean.tolist() == [True, False, False, False]


def test_scores_are_in_robust_deviations_of_the_reference(cohort, is_train):
    scores = artefact_scores(cohort.images, is_train, cohort.atlas)
    assert scores.shape == (300, 3) and np.isfinite(scores).all()
    reference = scores[is_train]
    np.testing.assert_allclose(np.median(reference, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(1.4826 * np.median(np.abs(reference), axis=0), 1, rtol=1e-6)


def test_a_cohort_is_judged_once(ruined, atlas):
    raw, metadata = ruined
    registered = made(raw, metadata, atlas)
    assert judged(registered) is registered
    simulated = simulate(40, shape=SHAPE, seed=2)
    found = judged(simulated)
    assert found.metadata["split"].equals(simulated.metadata["split"])
    assert found.metadata["artefact"].equals(simulated.metadata["artefact"])
    assert found.preprocessing is not None and not is_outlier(found.metadata).any()
