"""Raw sections made comparable, outliers, a brain of one's own, and the rule for clean brains."""

import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from scipy.ndimage import shift

from brainvae_core.cohorts import drawn_atlas, simulate
from brainvae_core.cohorts.artefacts import (
    CLEAN_LIMIT,
    artefact_free,
    artefact_scores,
    is_outlier,
    reference_brains,
)
from brainvae_core.cohorts.cohort import LEAST_BRAINS, SET_ASIDE, Cohort, split_of
from brainvae_core.cohorts.preprocess import (
    SPREAD_FLOOR,
    Preprocessing,
    comparable_section,
    equalise_brightness,
    preprocess,
    run_quality_control,
)

SHAPE = (80, 112)
N = 60
HALF, MOVED = 11, 23  # brains that `ruined` ruins
SCORES = ["leak_score", "breakage_score", "grid_score"]


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


def test_everything_by_hand(drawn, atlas):
    raw, metadata, gains = drawn
    before, columns = raw.copy(), list(metadata)
    found = made(raw, metadata, atlas, refused={"x": "why"})
    assert np.array_equal(raw, before) and list(metadata) == columns
    assert found.refused == {"x": "why"}
    assert found.metadata["split"].equals(split_of(metadata.index, 3).rename("split"))
    train = (found.metadata["split"] == "train").to_numpy()
    own = raw[:, atlas.brain_mask].astype(float).mean(axis=1)
    target = own[train].mean()
    np.testing.assert_allclose(found.metadata["gain"], target / own, rtol=1e-5)
    adjusted = raw * (target / own)[:, None, None]
    inside = adjusted[:, atlas.brain_mask].astype(float)
    bright = np.median(np.percentile(inside[train], 99.9, axis=1))
    assert found.preprocessing["brightness"] == pytest.approx(target, rel=1e-5)
    assert found.preprocessing["white"] == pytest.approx(bright, rel=1e-5)
    np.testing.assert_allclose(found.images, np.clip(adjusted / bright, 0, 1), rtol=1e-5)
    ungained = made(raw / gains[:, None, None], metadata, atlas)
    np.testing.assert_allclose(found.images, ungained.images, rtol=1e-4, atol=1e-6)
    rest = np.minimum(inside, bright) - np.median(np.minimum(inside, bright)[train], axis=0)
    statistics = {
        "difference": np.sqrt((rest**2).mean(axis=1)) / target,
        "missing": (inside < target / 5).mean(axis=1),
        "saturated": (inside > bright).mean(axis=1),
        "gain": np.log(target / own),
    }
    worst = np.zeros(N)
    for name, values in statistics.items():
        centre = np.median(values[train])
        spread = 1.4826 * np.median(np.abs(values[train] - centre))
        z = (values - centre) / max(spread, SPREAD_FLOOR[name])
        np.testing.assert_allclose(found.metadata[f"{name}_z"], z, atol=2e-2)
        worst = np.maximum(worst, np.abs(found.metadata["gain_z"]) if name == "gain" else z)
    limit = (np.sort(worst)[-3] + np.sort(worst)[-4]) / 2
    strict = made(raw, metadata, atlas, outlier_limit=limit).metadata["outlier"]
    assert (strict != "none").sum() == 3


def test_only_training_brains_are_fitted(drawn, atlas):
    raw, metadata, _ = drawn
    before = made(raw, metadata, atlas)
    changed = raw.copy()
    judged = np.flatnonzero(before.metadata["split"] != "train")
    changed[judged] = np.random.default_rng(0).random((len(judged), *SHAPE)) * 60_000
    changed[judged] *= atlas.brain_mask
    for options in ({}, {"clip_pixels": False}, {"drop_brains": True}):
        before, after = (made(r, metadata, atlas, **options) for r in (raw, changed))
        assert after.preprocessing == before.preprocessing
        train = (split_of(metadata.index, 3) == "train").to_numpy()
        assert np.array_equal(after.images[train], before.images[train])
        z = [f"{s}_z" for s in SPREAD_FLOOR] + SCORES
        pd.testing.assert_frame_equal(after.metadata.loc[train, z], before.metadata.loc[train, z])


@pytest.mark.parametrize("brain", [0, HALF, MOVED])
@pytest.mark.parametrize("clip", [True, False])
def test_a_new_brain_comes_out_as_it_did_in_the_cohort(ruined, atlas, brain, clip):
    raw, metadata = ruined
    found = made(raw, metadata, atlas, clip_pixels=clip)
    again = comparable_section(raw[brain], atlas, Preprocessing.of(found))
    np.testing.assert_allclose(again, found.images[brain], rtol=1e-6, atol=1e-7)


# ---- outliers ----


def test_ruined_brains_are_flagged_and_do_not_spoil_the_reference(ruined, atlas):
    raw, metadata = ruined
    found = made(raw, metadata, atlas)
    reasons = found.metadata["outlier"]
    assert reasons.iloc[HALF] == "difference, missing, saturated"
    assert reasons.iloc[MOVED] == "difference, missing"
    assert np.flatnonzero(is_outlier(found.metadata)).tolist() == [HALF, MOVED]
    dim = raw.copy()
    dim[1], dim[2] = raw[1] / 40, raw[2] * 40
    reasons = made(dim, metadata, atlas).metadata["outlier"]
    assert reasons.iloc[1] == reasons.iloc[2] == "gain"
    ordinary = np.isin(np.arange(N), [HALF, MOVED], invert=True)
    reference = ordinary & (found.metadata["split"] == "train").to_numpy()
    assert np.array_equal(reference_brains(found.metadata), reference)


def test_brains_that_are_all_alike_have_no_outlier(atlas):
    one = simulate(2, shape=SHAPE, artefact_share=0, seed=0).images[0]
    brains = pd.DataFrame(index=pd.Index([f"b{i}" for i in range(15)], name="brain"))
    apart = np.random.default_rng(0).normal(1, 0.02, (15, 20, 28)).repeat(4, axis=1).repeat(4, 2)
    found = made(one * apart, brains, atlas).metadata
    assert (found[[f"{s}_z" for s in SPREAD_FLOOR]].abs() < 1).all(axis=None)
    assert (found[["outlier", "artefact"]] == "none").all(axis=None)
    assert np.isfinite(found[SCORES]).all(axis=None)


def test_clipping_and_dropping_are_two_switches(ruined, atlas):
    raw, metadata = ruined
    split, whites = split_of(metadata.index, 3), {}
    for clip, drop in product((True, False), repeat=2):
        one = made(raw, metadata, atlas, clip_pixels=clip, drop_brains=drop)
        aside = one.metadata["split"] == SET_ASIDE
        assert np.flatnonzero(aside).tolist() == ([HALF, MOVED] if drop else [])
        assert one.metadata["split"][~aside].equals(split[~aside].rename("split"))
        assert len(one.split(SET_ASIDE)) == 2 * drop
        ordinary = (one.metadata["split"] == "train").to_numpy() & artefact_free(one)
        touched = (one.images[ordinary] == 1).mean(axis=(1, 2))
        assert (touched.mean() > 2e-4) if clip else (touched.sum() <= 1 / 80 / 112)
        whites.setdefault(clip, set()).add(one.preprocessing["white"])
    (clipped,), (whole,) = whites[True], whites[False]
    assert clipped < whole


def test_suspected_artefacts_are_the_highest_score(cohort, atlas):
    raw, metadata = cohort.images * 4000, cohort.metadata.drop(columns="artefact")
    found = made(raw, metadata, atlas, seed=4).metadata
    scores = found[SCORES].to_numpy()
    kinds = np.array(["leak", "breakage", "grid"])[scores.argmax(axis=1)]
    expected = np.where(scores.max(axis=1) < 4, "none", kinds)
    assert found["artefact"].tolist() == expected.tolist()
    unclipped = made(raw, cohort.metadata, atlas, seed=4, clip_pixels=False)
    free = reference_brains(found) & (scores < 4).all(axis=1)  # where the brightest pixel may be
    white = (raw.max(axis=(1, 2)) * found["gain"])[free].max()
    assert unclipped.preprocessing["white"] == pytest.approx(white, rel=1e-5)


# ---- what is refused ----

SPOILT = {
    "NaN or infinite": lambda s: np.where(np.arange(112) == 50, np.nan, s),
    "no brightness inside the brain; is it registered?": lambda s: np.full(SHAPE, 5.0),
    r"does not fit the cohort's \(80, 112\); 320 × 456": lambda s: s.T,
}


def test_what_makes_no_cohort_is_refused_in_a_line(drawn, atlas):
    raw, metadata, _ = drawn
    assert len(made(raw[:15], metadata[:15], atlas, outlier_limit=20)) == 15
    few = ["train"] * 3 + ["validation"] * 6 + ["test"] * 6
    of_three = metadata[:15].assign(split=few)
    copied = [*raw[:14], raw[2] * 0.5]
    left = metadata.assign(split=["train"] * 58 + ["test", "validation"])
    without = [*raw[:58], raw[58] * np.nan, raw[59]]
    lit = np.clip(raw / raw.max(), 0, 1)
    lit[8] = 1 - 0.9 * lit[8]
    cases = [
        ("14 different brains are too few; give 15 or more", made, raw[:14], metadata[:14], atlas),
        ("14 different brains are too few", made, copied, metadata[:15], atlas),
        (
            r"'sim-00002' \(train\) and 'sim-00014' \(test\) have the same pixels",
            *(made, copied, of_three, atlas),
        ),
        (
            "has 2 train, 7 validation, 6 test brains; each part needs 2, train 3",
            *(made, raw[:15], of_three.assign(split=["validation", *few[1:]]), atlas),
        ),
        (
            "has 58 train, 1 validation, 0 test brains.*; 1 were refused, the first 'sim-00058': ",
            *(made, without, left, atlas),
        ),
        ("60 sections and 59 rows of metadata", made, raw, metadata[:-1], atlas),
        (
            "2 of 3 training brains are no outliers and 3 are needed.*outlier_limit=6",
            *(made, [raw[0], raw[1] * (np.arange(112) > 56), *raw[2:15]], of_three, atlas),
        ),
        (
            "^brain 'sim-00008' of 'lit': section is .* outside the brain",
            *(run_quality_control, Cohort(lit, metadata, atlas, name="lit")),
        ),
    ]
    for words, spoil in SPOILT.items():
        section = (spoil(raw[7]), atlas, Preprocessing(0.3, 1.0))
        cases.append((words, comparable_section, *section))
    refused(cases)


@pytest.mark.parametrize("words", SPOILT)
def test_a_brain_that_is_none_is_refused_and_the_others_go_on(drawn, atlas, words, capsys):
    (raw, metadata, _), spoil = drawn, SPOILT[words]
    rest = [i for i in range(N) if i not in (7, 9)]
    sections = [spoil(s) if i in (7, 9) else s for i, s in enumerate(raw)]
    found = made(sections, metadata, atlas, refused={"x": "why"})
    why = found.refused["sim-00007"]
    assert found.refused == {"sim-00007": why, "sim-00009": why, "x": "why"}
    assert re.search(words, why)
    assert found.fingerprint == made(raw[rest], metadata.iloc[rest], atlas).fingerprint
    told = f"2 of 60 brains are refused; the first, 'sim-00007': {why}\n"
    assert capsys.readouterr().out == told
    few = f"^14 different brains are too few.*; 2 were refused, the first 'sim-00007': .*{words}"
    every = f"^all 60 brains are refused; the first, 'sim-00000': section .*{words}"
    refused([(few, made, sections[:16], metadata[:16], atlas)])
    refused([(every, made, [spoil(section) for section in raw], metadata, atlas)])


# ---- a comparable section ----


def test_columns_4_to_452_are_kept_and_averaged_in_blocks(atlas):
    section = np.zeros((320, 456))
    section[:, 4:452] = 20_000 * drawn_atlas().template + 100
    section += np.random.default_rng(0).random((320, 456)) * 50
    greys = Preprocessing(0.2, 1.0)
    found = comparable_section(section, atlas, greys)
    by_hand = section[:, 4:452].reshape(80, 4, 112, 4).mean(axis=(1, 3))
    assert found.dtype == np.float32 and found.shape == SHAPE
    scale = 0.2 / by_hand[atlas.brain_mask].mean()
    np.testing.assert_allclose(found, by_hand * scale, rtol=1e-4)
    # In any unit of grey, cropped before, on the cohort's own grid and at full size.
    for other in (section * 1e-4, section[:, 4:452], found):
        np.testing.assert_allclose(comparable_section(other, atlas, greys), found, rtol=1e-5)
    assert comparable_section(section, drawn_atlas(), greys).shape == (320, 448)
    section[100:108, 200:208], section[0, 0] = 60_000, -30
    found = comparable_section(section, atlas, Preprocessing(0.4, 1.0))
    assert found.max() == 1 and found.min() >= 0


# ---- copies ----


def test_copies_of_a_brain_are_named_and_come_to_one_part(drawn, atlas, capsys):
    """Under other names, at half the brightness, in 8 bits: 40 copies of 20 brains."""
    raw, metadata, _ = drawn
    raw = raw[:20]
    eight_bits = np.round(raw * (255 / raw.max(axis=(1, 2), keepdims=True)))
    names = [f"{kind}{i:02}" for kind in "abc" for i in range(20)]
    found = made([*raw, *raw / 2, *eight_bits], pd.DataFrame(index=names), atlas)
    split, copy_of = found.metadata["split"], found.metadata["copy_of"]
    assert copy_of[:20].isna().all() and copy_of[20:].tolist() == names[:20] * 2
    assert split[:20].tolist() == split[20:40].tolist() == split[40:].tolist()
    assert "same pixels, kept in one part of the split: b00 and a00, " in capsys.readouterr().out
    assert "copy_of" not in made(*drawn[:2], atlas).metadata


def test_from_15_brains_on_every_part_has_two():
    for n in range(LEAST_BRAINS, 60):
        counts = split_of(pd.RangeIndex(n), 0).value_counts()
        assert counts.min() >= 2 and counts.sum() == n
    counts = split_of(pd.RangeIndex(18), 0).value_counts().to_dict()
    assert counts == {"train": 12, "validation": 2, "test": 4}


# ---- clean brains ----


def test_planted_artefacts_are_found_and_clean_brains_are_kept(cohort, is_train):
    def passed(images):
        return (artefact_scores(images, is_train, cohort.atlas) < CLEAN_LIMIT).all(axis=1)

    clean = artefact_free(cohort)
    assert np.array_equal(clean, passed(cohort.images))
    share = pd.Series(~clean).groupby(cohort.metadata["artefact"].to_numpy()).mean()
    assert share["breakage"] >= 0.85 and share["grid"] >= 0.85
    assert share["leak"] >= 0.5  # weak leaks over bright tissue stay hidden
    assert share["none"] <= 0.05
    assert passed(cohort.clean).mean() >= 0.95  # it never sees the truth
    scores = artefact_scores(cohort.images, is_train, cohort.atlas)
    found = np.array(["leak", "breakage", "grid"])[scores.argmax(axis=1)]
    is_found = ~clean & (cohort.metadata["artefact"] != "none").to_numpy()
    assert (found == cohort.metadata["artefact"])[is_found].mean() > 0.95
    two = (cohort.images, np.arange(300) < 2, cohort.atlas)
    refused([("2 reference brains have no spread.*3 or more", artefact_scores, *two)])


def test_scores_are_in_robust_deviations_of_the_reference(cohort, is_train):
    scores = artefact_scores(cohort.images, is_train, cohort.atlas)
    assert scores.shape == (300, 3) and np.isfinite(scores).all()
    reference = scores[is_train]
    np.testing.assert_allclose(np.median(reference, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(1.4826 * np.median(np.abs(reference), axis=0), 1, rtol=1e-6)


def test_an_equalised_cohort_is_as_bright_all_over_and_judged_as_it_came():
    before = simulate(40, shape=SHAPE, seed=2)
    found, inside = equalise_brightness(before), before.atlas.brain_mask
    train = before.split("train").images[:, inside].mean()
    for part in ("images", "clean"):
        bright = getattr(found, part)[:, inside].mean(axis=1)
        np.testing.assert_allclose(bright, train, rtol=0.003)  # white pixels end at 1
    own = before.images[:, inside].mean(axis=1)
    np.testing.assert_allclose(found.metadata["gain"], train / own, rtol=1e-5)
    assert np.corrcoef(found.metadata["gain"], before.factors["brightness"])[0, 1] < -0.5
    assert list(before.factors.drop(columns="brightness")) == list(found.factors)
    gains = [run_quality_control(cohort).metadata["gain"] for cohort in (before, found)]
    np.testing.assert_allclose(*gains, rtol=0.003)
    with pytest.raises(ValueError, match="is not simulated: take preprocess"):
        equalise_brightness(run_quality_control(found))
    again = equalise_brightness(found)
    np.testing.assert_allclose(again.images, found.images, atol=0.003)


def test_a_cohort_is_judged_once(ruined, atlas):
    registered = made(*ruined, atlas)
    assert run_quality_control(registered) is registered
    simulated = simulate(40, shape=SHAPE, seed=2)
    found = run_quality_control(simulated)
    for column in ("split", "artefact"):
        assert found.metadata[column].equals(simulated.metadata[column])
    assert found.preprocessing is not None and not is_outlier(found.metadata).any()
