"""The cohort in memory: what it refuses, how it is split, selected and resampled."""

import re

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from brainvae_core.cohorts import Atlas, Cohort
from brainvae_core.cohorts.cohort import SPLITS

N, HEIGHT, WIDTH = 7, 6, 10


def tiny_atlas(height=HEIGHT, width=WIDTH):
    structures = pd.DataFrame(
        [(1, "root", "root", 0), (2, "TH", "Thalamus, mëdial", 1), (3, "HPF", "hippocampus", 1)],
        columns=["id", "acronym", "name", "parent_id"],
    )
    annotation = np.zeros((height, width), dtype=np.uint32)
    annotation[1:4, 2:9], annotation[4:, 3:5] = 2, 3
    template = np.linspace(0, 1, annotation.size, dtype=np.float32).reshape(annotation.shape)
    return Atlas(annotation, template, structures, 25.0, "tiny slice", "cite the tiny institute")


def brains(n=N, **columns):
    index = pd.Index([f"mouse-{i}" for i in range(n)], name="brain")
    return pd.DataFrame({"is_kept": np.arange(n) % 2 == 0, **columns}, index=index)


def sections(n=N, height=HEIGHT, width=WIDTH, seed=0):
    return np.random.default_rng(seed).random((n, height, width), dtype=np.float32)


def made(name="tiny cohort", **parts):
    return Cohort(
        **{"images": sections(), "metadata": brains(), **parts}, atlas=tiny_atlas(), name=name
    )


@pytest.fixture
def full():
    factors = np.random.default_rng(2).standard_normal((N, 2)).astype(np.float32)
    factors = pd.DataFrame(factors, brains().index, ["width", "height"])
    parts = {"clean": sections(seed=1), "artefact_masks": sections(seed=3) > 0.5}
    return made(factors=factors, preprocessing={"white": 1.5}, **parts).with_split(0)


def test_what_is_no_cohort_is_refused_in_one_line(full):
    of_whom, factors = "of cohort 'tiny cohort': brain 'mouse-4' has greys from", full.factors
    constant = np.where(np.arange(N)[:, None, None] == 5, 0.25, sections())
    cases = [
        ("'mouse-5' has greys from 0.25 to 0.25, and 0 others", {"images": constant}),
        ("'mouse-1'. occur twice", {"metadata": brains().rename(index={"mouse-3": "mouse-1"})}),
        ("factors .*'tiny cohort' .*same brains", {"factors": factors[::-1]}),
        (
            r"masks of cohort 'tiny cohort' are \(7, 10, 6\), not \(7, 6, 10\)",
            {"artefact_masks": np.zeros((N, WIDTH, HEIGHT), dtype=bool)},
        ),
        (
            "'tiny cohort' has .'val'.; every brain is one of train, validation, test or set aside",
            {"metadata": brains(split=["train"] * (N - 1) + ["val"])},
        ),
    ]
    for value, found in ((np.nan, "nan to nan"), (1.01, ".* to 1.01"), (-0.01, "-0.01 to .*")):
        spoiled = sections()
        spoiled[4, 2, 9] = spoiled[6, 0, 0] = value
        for name, part in (("images", "images"), ("clean images", "clean")):
            cases.append((f"^{name} {of_whom} {found}.*1 others are bad", {part: spoiled}))
    for shape in ((N, WIDTH, HEIGHT), (N - 1, HEIGHT, WIDTH), (6, 10)):
        words = f"{shape}; (n_brains, height, width) is (7, 6, 10)"
        cases.append((re.escape(words), {"images": np.random.default_rng(0).random(shape)}))
    refused(
        [
            *((words, lambda parts=parts: made(**parts)) for words, parts in cases),
            (r"'tiny cohort' is not split; .*with_split\(seed\)", made().split, "train"),
            ("no split 'val'; there are train, validation, test", full.split, "val"),
            ("'mouse-2'. occur twice", full.select, [2, 2]),
            ("6×10.*3×5", full.resampled, (4, 5)),
        ]
    )


def test_a_cohort_may_be_bare_and_have_brains_set_aside():
    bare = made(images=sections().astype(np.float64))
    assert bare.images.dtype == np.float32 and bare.clean is bare.factors is None
    aside = made(metadata=brains(split=["train", "set aside", *["test"] * (N - 2)]))
    assert aside.split("set aside").metadata.index.tolist() == ["mouse-1"]
    assert "1 set aside" in repr(aside)
    assert sum(len(aside.split(name)) for name in SPLITS) == N - 1


@pytest.mark.parametrize("n", [2, 7, 10, 53])
def test_every_brain_is_in_one_part_of_the_stated_size_by_seed(n):
    cohort = made(images=sections(n), metadata=brains(n))
    first, again, other = (cohort.with_split(seed) for seed in (4, 4, 2))
    parts = [first.split(name) for name in SPLITS]
    assert sorted(b for part in parts for b in part.metadata.index) == sorted(brains(n).index)
    for part, share in zip(parts, SPLITS.values(), strict=True):
        assert abs(len(part) - share * n) <= 1
    split = first.metadata["split"]
    assert split.equals(again.metadata["split"]) and "split" not in cohort.metadata
    if n == 53:
        assert not split.equals(other.metadata["split"]) and split.tolist() != sorted(split)


@pytest.mark.parametrize("which", ["mask", [5, 0, 3]])
def test_everything_of_the_selected_brains_comes_along(full, which):
    mask = full.metadata["is_kept"]
    chosen = full.select(mask if which == "mask" else np.array(which))
    rows = np.flatnonzero(mask) if which == "mask" else which
    assert chosen.metadata.index.tolist() == [f"mouse-{i}" for i in rows]
    for part in ("images", "clean", "artefact_masks"):
        assert np.array_equal(getattr(chosen, part), getattr(full, part)[rows])
    assert chosen.factors.equals(full.factors.iloc[rows])
    assert (chosen.name, chosen.preprocessing) == (full.name, full.preprocessing)
    assert chosen.fingerprint == full.select(rows).fingerprint != full.fingerprint
    chosen.images[:] = 0
    assert full.images[rows].all()


def test_resampled_is_the_mean_of_blocks():
    height, width = 4, 6
    ramp = np.arange(height * width, dtype=np.float32).reshape(1, height, width) / 24
    masks = np.zeros((1, height, width), dtype=bool)
    masks[0, 0, :2] = masks[0, 2, 4] = True  # half a block, and a quarter of another
    parts = {"clean": ramp / 2, "artefact_masks": masks, "preprocessing": {"white": 2}}
    small = Cohort(ramp, brains(1), tiny_atlas(height, width), **parts).resampled((2, 3))
    by_hand = np.array([[[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]]) / 24
    np.testing.assert_allclose(small.images, by_hand, rtol=1e-6)
    np.testing.assert_allclose(small.clean, by_hand / 2, rtol=1e-6)
    assert small.artefact_masks.tolist() == [[[True, False, False], [False, False, False]]]
    assert small.atlas.shape == (2, 3) and small.atlas.pixel_um == 50
    assert small.preprocessing == {"white": 2}


# ---- the fingerprint ----


def test_the_fingerprint_is_of_images_ids_and_split_and_not_of_the_name():
    def fingerprint(seed=0, **parts):
        return made(**parts).with_split(seed).fingerprint

    nudged = sections()
    nudged[3, 2, 1] += np.float32(1e-6)
    base, unsplit = fingerprint(), made()
    before = unsplit.fingerprint  # a new split makes another, even after the first was read
    assert unsplit.with_split(0).fingerprint == base != before == unsplit.fingerprint
    assert fingerprint(name="b") == base == fingerprint(metadata=brains(age_days=1.0))
    changed = [
        fingerprint(seed=1),
        fingerprint(images=nudged),
        fingerprint(metadata=brains().rename(index={"mouse-0": "mouse-9"})),
        made().with_split(0).select(np.arange(N)[::-1]).fingerprint,
        made().fingerprint,
    ]
    assert len({base, *changed}) == 6


def test_the_identity_is_of_what_real_brains_are_used_for_and_not_of_simulated_ones(full):
    bare = made().with_split(0)
    changed = [bare.metadata.assign(split="test"), bare.metadata.assign(outlier="gain")]
    changed += [bare.metadata.assign(artefact=["leak"] * N)]
    others = [bare._like(metadata=metadata) for metadata in changed]
    assert len({bare.identity, *(other.identity for other in others)}) == 4
    assert bare._like(metadata=bare.metadata.assign(sex="F")).identity == bare.identity
    assert full.identity == full.with_split(1).identity
    assert full.identity[:16] == "fd23b72f2e428f36"  # tables are kept under it
