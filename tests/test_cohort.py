"""The cohort: what it refuses, how it is split and selected, and its way to disk and back."""

import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from brainvae_core.cohorts import Atlas, Cohort, open_cohort, simulate
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


def brains(n=N):
    return pd.DataFrame(
        {
            "sex": ["F", "M", None, "F", "M", "M", "F"][:n],
            "age_days": np.linspace(55, 60, n),
            "n_injections": np.arange(n, dtype=np.int16),
            "is_kept": np.arange(n) % 2 == 0,
            "weight_g": np.linspace(20, 30, n).astype(np.float32),
        },
        index=pd.Index([f"mouse-{i}" for i in range(n)], name="brain"),
    )


def sections(n=N, height=HEIGHT, width=WIDTH, seed=0):
    return np.random.default_rng(seed).random((n, height, width), dtype=np.float32)


def full_cohort():
    factors = np.random.default_rng(2).standard_normal((N, 2)).astype(np.float32)
    return Cohort(
        sections(),
        brains(),
        tiny_atlas(),
        clean=sections(seed=1),
        artefact_masks=sections(seed=3) > 0.5,
        factors=pd.DataFrame(factors, brains().index, ["width", "height"]),
        name="tiny cohort",
    ).with_split(0)


def assert_refused(words, make):
    """One line that holds every word."""
    with pytest.raises(ValueError) as refusal:
        make()
    message = str(refusal.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


# ---- what a cohort refuses ----


@pytest.mark.parametrize(
    "shape", [(N, WIDTH, HEIGHT), (N - 1, HEIGHT, WIDTH), (N, HEIGHT, WIDTH, 1), (HEIGHT, WIDTH)]
)
def test_images_of_another_shape_are_refused(shape):
    images = np.random.default_rng(0).random(shape)
    words = ["tiny cohort", str(shape), "(7, 6, 10)"]
    assert_refused(words, lambda: Cohort(images, brains(), tiny_atlas(), name="tiny cohort"))


FAULTS = {
    "nan": (np.nan, "NaN or infinite"),
    "inf": (np.inf, "NaN or infinite"),
    "-inf": (-np.inf, "NaN or infinite"),
    "above": (1.01, "outside [0, 1]"),
    "below": (-0.01, "outside [0, 1]"),
}


@pytest.mark.parametrize("which", ["images", "clean"])
@pytest.mark.parametrize(("value", "fault"), FAULTS.values(), ids=FAULTS)
def test_one_bad_pixel_is_refused_with_its_brain(which, value, fault):
    parts = {"images": sections(), "clean": sections(seed=1)}
    parts[which][4, 2, 9] = parts[which][6, 0, 0] = value
    words = [f"{which.removeprefix('images')}", "images of cohort 'tiny cohort'", "'mouse-4'"]
    assert_refused(
        [*words, fault, "1 others"],
        lambda: Cohort(metadata=brains(), atlas=tiny_atlas(), name="tiny cohort", **parts),
    )


def test_a_constant_image_is_refused_with_its_brain():
    images = sections()
    images[5] = 0.25
    assert_refused(
        ["cohort 'flat'", "'mouse-5'", "one constant value"],
        lambda: Cohort(images, brains(), tiny_atlas(), name="flat"),
    )


def test_an_id_that_occurs_twice_is_refused():
    metadata = brains().rename(index={"mouse-3": "mouse-1"})
    assert_refused(
        ["cohort 'twins'", "unique", "mouse-1"],
        lambda: Cohort(sections(), metadata, tiny_atlas(), name="twins"),
    )


@pytest.mark.parametrize("order", [slice(None, None, -1), slice(0, N - 1)])
def test_factors_of_other_brains_are_refused(order):
    factors = pd.DataFrame({"width": np.arange(N)}, brains().index).iloc[order]
    assert_refused(
        ["factors", "cohort 'mixed'", "same brains"],
        lambda: Cohort(sections(), brains(), tiny_atlas(), factors=factors, name="mixed"),
    )


def test_masks_of_another_shape_are_refused():
    masks = np.zeros((N, WIDTH, HEIGHT), dtype=bool)
    assert_refused(
        ["masks (7, 10, 6)", "(7, 6, 10)", "cohort 'askew'"],
        lambda: Cohort(sections(), brains(), tiny_atlas(), artefact_masks=masks, name="askew"),
    )


def test_a_part_that_no_brain_can_be_in_is_refused():
    metadata = brains().assign(split=["train"] * (N - 1) + ["val"])
    assert_refused(
        ["cohort 'typo'", "val", "train, validation, test"],
        lambda: Cohort(sections(), metadata, tiny_atlas(), name="typo"),
    )


def test_images_are_float32_whatever_they_came_as():
    cohort = Cohort(sections().astype(np.float64), brains(), tiny_atlas())
    assert cohort.images.dtype == np.float32 and len(cohort) == N
    assert cohort.clean is cohort.artefact_masks is cohort.factors is None


def test_a_cohort_says_what_it_is():
    assert repr(full_cohort()) == (
        "Cohort 'tiny cohort': 7 brains of 6 × 10 px of 25 µm on tiny slice; "
        "5 train, 1 validation, 1 test"
    )


# ---- split, select, resample ----


@pytest.mark.parametrize("n", [2, 7, 10, 53])
def test_every_brain_is_in_one_part_of_the_stated_size(n):
    metadata = pd.DataFrame(index=[f"b{i}" for i in range(n)])
    cohort = Cohort(sections(n), metadata, tiny_atlas()).with_split(4)
    parts = [cohort.split(name) for name in SPLITS]
    ids = [set(part.metadata.index) for part in parts]
    assert set.union(*ids) == set(metadata.index) and sum(map(len, ids)) == n
    assert all(
        abs(len(part) - share * n) <= 1 for part, share in zip(parts, SPLITS.values(), strict=True)
    )


def test_a_split_takes_everything_of_its_brains():
    cohort = full_cohort()
    test = cohort.split("test")
    rows = [cohort.metadata.index.get_loc(brain) for brain in test.metadata.index]
    assert np.array_equal(test.images, cohort.images[rows])
    assert np.array_equal(test.clean, cohort.clean[rows])
    assert np.array_equal(test.artefact_masks, cohort.artefact_masks[rows])
    assert test.factors.equals(cohort.factors.iloc[rows])


def test_a_split_follows_its_seed_and_leaves_the_cohort_alone():
    cohort = Cohort(sections(53), pd.DataFrame(index=np.arange(53)), tiny_atlas())
    first, again, other = (cohort.with_split(seed).metadata["split"] for seed in (1, 1, 2))
    assert first.equals(again) and not first.equals(other)
    assert "split" not in cohort.metadata
    assert first.tolist() != sorted(first)  # not by position


def test_a_missing_and_an_unknown_split_are_refused():
    unsplit = Cohort(sections(), brains(), tiny_atlas(), name="whole")
    assert_refused(["'whole'", "with_split(seed)"], lambda: unsplit.split("train"))
    words = ["'val'", "train, validation, test"]
    assert_refused(words, lambda: unsplit.with_split(0).split("val"))


def test_a_mask_and_positions_select_the_same_brains():
    cohort = full_cohort()
    by_mask = cohort.select(cohort.metadata["is_kept"])
    by_position = cohort.select([0, 2, 4, 6])
    assert by_mask.metadata.equals(by_position.metadata)
    assert np.array_equal(by_mask.images, by_position.images)
    assert by_mask.fingerprint == by_position.fingerprint != cohort.fingerprint


def test_positions_are_taken_in_their_order():
    cohort, positions = full_cohort(), np.array([5, 0, 3])
    chosen = cohort.select(positions)
    assert chosen.metadata.index.tolist() == ["mouse-5", "mouse-0", "mouse-3"]
    for part in ("images", "clean", "artefact_masks"):
        assert np.array_equal(getattr(chosen, part), getattr(cohort, part)[positions])
    assert chosen.factors.equals(cohort.factors.iloc[positions])
    assert chosen.name == cohort.name


def test_resampled_is_the_mean_of_blocks():
    height, width = 4, 6
    ramp = np.arange(height * width, dtype=np.float32).reshape(1, height, width) / 24
    masks = np.zeros((1, height, width), dtype=bool)
    masks[0, 0, :2] = masks[0, 2, 4] = True  # half a block, and a quarter of another
    atlas = tiny_atlas(height, width)
    small = Cohort(ramp, brains(1), atlas, clean=ramp / 2, artefact_masks=masks).resampled((2, 3))
    by_hand = np.array([[[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]]) / 24
    np.testing.assert_allclose(small.images, by_hand, rtol=1e-6)
    np.testing.assert_allclose(small.clean, by_hand / 2, rtol=1e-6)
    assert small.artefact_masks.tolist() == [[[True, False, False], [False, False, False]]]
    assert small.atlas.shape == (2, 3) and small.atlas.pixel_um == 50


def test_resampling_to_no_whole_number_is_refused():
    assert_refused(["6×10", "3×5"], lambda: full_cohort().resampled((4, 5)))


# ---- the fingerprint ----


def test_the_fingerprint_is_of_images_ids_and_split_and_not_of_the_name():
    def fingerprint(name="a", seed=0, images=None, **columns):
        images = sections() if images is None else images
        return Cohort(images, brains().assign(**columns), tiny_atlas(), name=name).with_split(seed)

    base = fingerprint().fingerprint
    nudged = sections()
    nudged[3, 2, 1] += np.float32(1e-6)
    renamed = Cohort(sections(), brains().rename(index={"mouse-0": "mouse-9"}), tiny_atlas())
    assert fingerprint(name="b").fingerprint == base
    assert fingerprint(age_days=1.0).fingerprint == base
    changed = [
        fingerprint(seed=1),
        fingerprint(images=nudged),
        renamed.with_split(0),
        fingerprint().select(np.arange(N)[::-1]),
        Cohort(sections(), brains(), tiny_atlas()),
    ]
    assert len({base, *(cohort.fingerprint for cohort in changed)}) == 6


def test_a_new_split_makes_a_new_fingerprint_even_after_the_first_was_read():
    cohort = Cohort(sections(), brains(), tiny_atlas())
    before = cohort.fingerprint
    assert cohort.with_split(0).fingerprint != before == cohort.fingerprint


# ---- to disk and back ----


def assert_same(left, right):
    for part in ("images", "clean", "artefact_masks"):
        expected, found = getattr(left, part), getattr(right, part)
        if expected is None:
            assert found is None
        else:
            assert np.array_equal(expected, found) and expected.dtype == found.dtype
    pd.testing.assert_frame_equal(left.metadata, right.metadata)
    assert (left.factors is None) == (right.factors is None)
    if left.factors is not None:
        pd.testing.assert_frame_equal(left.factors, right.factors)
    assert np.array_equal(left.atlas.annotation, right.atlas.annotation)
    assert left.atlas.annotation.dtype == right.atlas.annotation.dtype
    assert np.array_equal(left.atlas.template, right.atlas.template)
    pd.testing.assert_frame_equal(left.atlas.structures, right.atlas.structures)
    for name in ("pixel_um", "name", "terms"):
        assert getattr(left.atlas, name) == getattr(right.atlas, name)
    assert (left.name, left.fingerprint) == (right.name, right.fingerprint)


@pytest.mark.filterwarnings("error")
def test_what_is_read_is_what_was_saved(tmp_path):
    cohort = full_cohort()
    path = cohort.save(tmp_path / "deep" / "cohort.zarr")
    opened = open_cohort(path)
    assert_same(cohort, opened)
    assert opened.metadata["sex"].isna().tolist() == [False, False, True] + [False] * 4
    assert [p.name for p in path.parent.iterdir()] == ["cohort.zarr"]


def test_a_bare_cohort_and_a_simulated_one_come_back_too(tmp_path):
    bare = Cohort(sections(3), brains(3)[["sex"]], tiny_atlas())
    simulated = simulate(33, shape=(40, 56), seed=3)
    for name, cohort in (("bare", bare), ("simulated", simulated)):
        assert_same(cohort, open_cohort(cohort.save(tmp_path / name)))


def test_the_dataset_is_labelled():
    data = full_cohort().to_dataset()
    assert dict(data.sizes) == {"brain": 7, "y": 6, "x": 10, "factor": 2, "structure": 3}
    assert data["images"].sel(brain="mouse-3").shape == (HEIGHT, WIDTH)
    assert data["factors"].sel(factor="height").shape == (N,)


def test_a_cohort_is_never_overwritten(tmp_path):
    path = full_cohort().save(tmp_path / "cohort.zarr")
    other = full_cohort().select([0, 1])
    with pytest.raises(FileExistsError, match="cohort.zarr exists; a cohort is never overwritten"):
        other.save(path)
    assert len(open_cohort(path)) == N


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_save_leaves_nothing_and_the_next_succeeds(tmp_path, monkeypatch, error):
    whole = xr.Dataset.to_zarr

    def fails_late(self, store, **options):
        whole(self, store, **options)
        raise error

    monkeypatch.setattr(xr.Dataset, "to_zarr", fails_late)
    with pytest.raises(type(error)):
        full_cohort().save(tmp_path / "cohort.zarr")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(open_cohort(full_cohort().save(tmp_path / "cohort.zarr"))) == N


def test_a_missing_cohort_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no cohort at .*nowhere"):
        open_cohort(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return full_cohort().save(tmp_path_factory.mktemp("saved") / "cohort.zarr")


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy.zarr")


def test_a_folder_of_something_else_is_refused(tmp_path):
    assert_refused([str(tmp_path), "not a readable cohort"], lambda: open_cohort(tmp_path))
    other = tmp_path / "other.zarr"
    xr.Dataset({"a": ("x", np.arange(3))}).to_zarr(other, zarr_format=2, consolidated=True)
    assert_refused([str(other), "format None"], lambda: open_cohort(other))


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("brainvae_core.cohorts.stored.FORMAT", 3)
    path = full_cohort().save(tmp_path / "newer.zarr")
    monkeypatch.undo()
    assert_refused([str(path), "format 3", "reads 1 and 2"], lambda: open_cohort(path))


def test_a_cohort_of_format_1_still_opens(tmp_path, monkeypatch):
    monkeypatch.setattr("brainvae_core.cohorts.stored.FORMAT", 1)
    path = full_cohort().save(tmp_path / "older.zarr")
    monkeypatch.undo()
    assert open_cohort(path).preprocessing is None


def test_the_preprocessing_travels_with_the_brains(tmp_path):
    what = {"format": 1, "brightness": 812.5, "clip_pixels": True, "spread": {"difference": 0.1}}
    refused = {"mouse-99": "its volume stops early"}
    cohort = Cohort(
        sections(), brains(), tiny_atlas(), preprocessing=what, refused=refused
    ).with_split(0)
    read = open_cohort(cohort.save(tmp_path / "own.zarr"))
    assert (read.preprocessing, read.refused) == (what, refused)
    assert cohort.split("train").preprocessing == what
    assert cohort.resampled((HEIGHT // 2, WIDTH // 2)).preprocessing == what


def test_brains_that_are_set_aside_are_in_no_other_part():
    metadata = brains().assign(split=["train", "set aside", *["test"] * (N - 2)])
    cohort = Cohort(sections(), metadata, tiny_atlas())
    assert cohort.split("set aside").metadata.index.tolist() == ["mouse-1"]
    parts = [cohort.split(name).metadata.index.tolist() for name in SPLITS]
    assert "mouse-1" not in sum(parts, [])
    assert "1 set aside" in repr(cohort)


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
@pytest.mark.parametrize(
    "variable",
    ["images", "clean", "artefact_masks", "annotation", "template", "factors", "factor", "brain"]
    + ["metadata_sex", "metadata_age_days", "metadata_split", "structure_id"],
)
def test_a_damaged_cohort_is_refused(copy, variable, damage):
    chunk = min(p for p in (copy / variable).iterdir() if not p.name.startswith("."))
    content = chunk.read_bytes()
    if damage == "missing":
        chunk.unlink()
    elif damage == "truncated":
        chunk.write_bytes(content[: len(content) // 2])
    else:
        chunk.write_bytes(content[:-1] + bytes([content[-1] ^ 255]))
    assert_refused([str(copy)], lambda: open_cohort(copy))
