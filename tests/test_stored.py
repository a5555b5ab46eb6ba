"""A cohort's folder: what is read is what was saved, damage is refused, no whole is copied."""

import json
import shutil
import tracemalloc
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from brainvae_core import disk
from brainvae_core.cohorts import Cohort, drawn_atlas, open_cohort, save_blocks, simulate
from brainvae_core.cohorts import cohort as cohort_module
from brainvae_core.cohorts.cohort import SPLITS, OnDisk
from brainvae_core.cohorts.stored import ARRAYS, _read_table, _write_table
from brainvae_core.models import BetaVAEConfig, fit

N, SHAPE = 17, (40, 56)


@pytest.fixture(scope="module")
def cohort():
    what = {"format": 1, "brightness": 812.5, "clip_pixels": True, "spread": {"difference": 0.1}}
    made = simulate(N, shape=SHAPE, seed=4)._like(
        preprocessing=what, refused={"mouse-99": "its volume stops early: Zürich"}, name="tiny"
    )
    made.metadata["sex"] = ["F", None, *["M"] * (N - 2)]
    return made


@pytest.fixture(scope="module")
def saved(cohort, tmp_path_factory):
    return cohort.save(tmp_path_factory.mktemp("saved") / "deep" / "cohort")


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


@pytest.fixture
def on_disk(saved, monkeypatch):
    """The saved cohort, no part of which is read into memory."""
    monkeypatch.setattr(cohort_module, "IN_MEMORY", 0)
    return open_cohort(saved)


def assert_same(left, right):
    for part in (*ARRAYS, "factors", "metadata", "name", "fingerprint", "preprocessing", "refused"):
        assert_equal(getattr(left, part), getattr(right, part))
    for part in ("annotation", "template", "structures", "pixel_um", "name", "terms"):
        assert_equal(getattr(left.atlas, part), getattr(right.atlas, part))


def assert_equal(expected, found):
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(expected, found)
    elif hasattr(expected, "dtype"):
        assert np.array_equal(expected, found) and expected.dtype == found.dtype
    else:
        assert expected == found


# ---- to disk and back ----


@pytest.mark.filterwarnings("error")
def test_what_is_read_is_what_was_saved(cohort, saved, tmp_path):
    again = cohort.save(tmp_path / "again")
    assert all(f.read_bytes() == (again / f.name).read_bytes() for f in saved.iterdir())
    opened = open_cohort(saved)
    assert_same(cohort, opened)
    del opened.fingerprint  # the saved one is what the images give
    assert opened.fingerprint == cohort.fingerprint
    assert [p.name for p in saved.parent.iterdir()] == ["cohort"]
    assert isinstance(opened.images, np.memmap) and not opened.images.flags.writeable
    bare = Cohort(cohort.images, cohort.metadata[[]], cohort.atlas)
    assert open_cohort(bare.save(tmp_path / "bare")).metadata.shape == (N, 0)
    part = opened.split("test")  # a small part is in memory, and its own
    part.images[0] = part.clean[0] = 0
    assert type(part.images) is np.ndarray and type(opened.resampled((20, 28)).clean) is np.ndarray
    assert_same(cohort, open_cohort(saved))


def test_a_fingerprint_is_the_same_in_every_version():
    images = (np.arange(2 * 20 * 28, dtype=np.float32).reshape(2, 20, 28) % 97) / 97
    atlas = drawn_atlas().resampled((20, 28))
    metadata = pd.DataFrame({"split": ["train", "test"]}, index=["a", "b"])
    assert Cohort(images, metadata, atlas).fingerprint == "b68ebac93d8458dd"
    assert Cohort(images, metadata[[]], atlas).fingerprint == "b60e7e206735751f"


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
COLUMNS = {
    "str": (texts | st.none(), "str"),
    "object": (texts | st.none(), object),
    "mixed": (st.booleans() | st.integers(-9, 9) | st.none(), object),
    "bool": (st.booleans(), bool),
    "boolean": (st.booleans() | st.none(), "boolean"),
    "int16": (st.integers(-(2**15), 2**15 - 1), np.int16),
    "Int64": (st.integers(-(2**63), 2**63 - 1) | st.none(), "Int64"),
    "float32": (st.floats(width=32), np.float32),
    "float64": (st.floats(), np.float64),
    "category": (st.sampled_from(["1", "b", None]), pd.CategoricalDtype(["b", "1", "c"])),
    "datetime": (st.datetimes(min_value=datetime(1700, 1, 1)), "datetime64[us]"),
}


@given(st.data())
def test_a_table_comes_back_with_its_types(tmp_path_factory, data):
    n = data.draw(st.integers(1, 4))
    table = pd.DataFrame(
        {
            name: pd.Series(data.draw(st.lists(values, min_size=n, max_size=n)), dtype=dtype)
            for name, (values, dtype) in COLUMNS.items()
        }
    ).set_axis(pd.Index([f"{i:03}" for i in range(n)], name="brain"))
    path = tmp_path_factory.mktemp("table") / "table.csv"
    kinds = json.loads(json.dumps(_write_table(path, table)))
    table["category"] = table["category"].astype(object)
    pd.testing.assert_frame_equal(_read_table(path, kinds), table, check_exact=True)


# ---- what stays on disk ----


def test_both_name_the_same_runs_whole_split_and_split_anew(cohort, on_disk):
    assert repr(on_disk) == repr(cohort)
    for part in SPLITS:
        found, expected = on_disk.split(part), cohort.split(part)
        assert isinstance(found.images, OnDisk)
        assert found.fingerprint == expected.fingerprint
        assert_same(expected, found)
    assert on_disk.with_split(7).fingerprint == cohort.with_split(7).fingerprint
    small, few = (c.resampled((10, 14)) for c in (on_disk, cohort))
    assert isinstance(small.images, OnDisk)
    assert_same(few, small)
    assert_same(few.split("test").resampled((5, 7)), small.split("test").resampled((5, 7)))


rows = st.integers(-N, N - 1)
ends = st.none() | st.integers(-N - 2, N + 2)


@given(
    st.one_of(
        rows,
        st.lists(rows, min_size=1),
        st.lists(rows, min_size=1).map(np.array),
        st.lists(st.booleans(), min_size=N, max_size=N).map(np.array),
        st.builds(slice, ends, ends, st.sampled_from([None, 1, 2, -1, -3])),
    ),
    st.lists(rows, min_size=N, max_size=N).map(np.array),
)
def test_indexing_is_numpys(cohort, saved, which, order):
    found = OnDisk(open_cohort(saved).images, order)[which]
    expected = cohort.images[order][which]
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.array_equal(found, expected)
    found[...] = 0  # the reader's own
    with pytest.raises(IndexError):
        OnDisk(open_cohort(saved).images, order)[[0, N]]


@pytest.mark.slow
def test_splitting_resampling_and_fitting_copy_no_whole_cohort(tmp_path, monkeypatch):
    monkeypatch.setattr(cohort_module, "IN_MEMORY", 1_000_000)
    block = simulate(100, shape=(80, 112), artefact_share=0, seed=0)
    ids = [pd.Index([f"b{i}-{j}" for j in range(100)], name="brain") for i in range(20)]
    path = save_blocks(
        tmp_path / "large",
        (Cohort(block.images, block.metadata.set_axis(brains), block.atlas) for brains in ids),
        split_seed=0,
    )
    whole = 20 * block.images.nbytes
    config = BetaVAEConfig(
        latent_dim=2, steps=4, batch_size=8, validate_every=4, initialisation="authors"
    )
    fit(block, config, tmp_path / "first", device="cpu")  # what it imports is not counted
    tracemalloc.start()
    cohort = open_cohort(path)
    fit(cohort, config, tmp_path / "runs", device="cpu")
    small = cohort.resampled((40, 56)).split("train")
    assert small.images[:64].shape == (64, 40, 56)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert whole > 70e6 and peak < 0.15 * whole


# ---- damage, and what is no cohort ----


@pytest.mark.promise("A flipped bit in a cohort's images is found, though opening reads none.")
def test_images_are_checked_when_they_are_first_used(copy, monkeypatch):
    read = []
    monkeypatch.setattr(disk, "sha256_of", lambda f, real=disk.sha256_of: read.append(f) or real(f))
    for part in ARRAYS:
        content = bytearray((copy / f"{part}.npy").read_bytes())
        content[-9] ^= 1
        (copy / f"{part}.npy").write_bytes(content)
    cohort = open_cohort(copy)
    assert len(cohort) == N and "17 brains of 40 × 56 px" in repr(cohort.with_split(1))
    assert not [file for file in read if file.stem in ARRAYS]
    for part in ARRAYS:
        refused([(f"copy/{part}.npy is damaged: .*; copy the", getattr, cohort, part)])
    refused([("copy/images.npy is damaged", cohort.split, "test")])
    (copy / "images.npy").write_bytes((copy / "images.npy").read_bytes().replace(b"<f4", b"<i4"))
    refused([("images.npy is damaged: its header", open_cohort, copy)])


def test_a_cohort_of_a_relative_folder_is_used_from_elsewhere(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(copy.parent)
    cohort = open_cohort(copy.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cohort.clean.shape == cohort.images.shape


def test_what_is_no_cohort_is_refused_and_none_is_overwritten(cohort, copy):
    with pytest.raises(FileNotFoundError, match="no cohort at .*nowhere"):
        open_cohort(copy / "nowhere")
    for write in (cohort.save, lambda path: save_blocks(path, blocks(cohort))):
        with pytest.raises(FileExistsError, match="copy exists; a cohort is never overwritten"):
            write(copy)


def test_a_cohort_says_what_it_was_made_with_and_one_that_does_not_is_read(cohort, copy):
    told = json.loads((copy / "cohort.json").read_text())
    assert told.pop("made") == disk.made_with()
    disk.seal(copy, "cohort.json", {k: v for k, v in told.items() if k != "sha256"})
    assert_same(cohort, open_cohort(copy))


# ---- written at once and block by block ----


def blocks(cohort, sizes=(5, 1, 11)):
    starts = np.cumsum([0, *sizes[:-1]])
    return (cohort.select(np.arange(a, a + n)) for a, n in zip(starts, sizes, strict=True))


def test_blocks_make_the_cohort_that_was_never_in_memory(cohort, tmp_path):
    longer = pd.Index([f"mouse-{i}" for i in range(9990, 9990 + N)], name="brain")
    renamed = cohort._like(
        metadata=cohort.metadata.set_axis(longer), factors=cohort.factors.set_axis(longer)
    )
    path = save_blocks(tmp_path / "deep" / "blocks", blocks(renamed), split_seed=3)
    assert_same(renamed.with_split(3), open_cohort(path))
    *others, last = blocks(renamed)
    last.refused = {"mouse-100": "it stops early"}
    of_all = renamed._like(refused=renamed.refused | last.refused)
    assert_same(of_all, open_cohort(save_blocks(tmp_path / "kept", [*others, last])))


@pytest.mark.promise("what is written appears whole or not at all")
def test_what_cannot_be_written_leaves_nothing_and_the_next_succeeds(cohort, tmp_path):
    def fails(error):
        yield from list(blocks(cohort))[:2]
        raise error

    for error in (OSError("disk full"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            save_blocks(tmp_path / "a", fails(error))
    words, at = "other columns or another preprocessing than the first", tmp_path / "a"
    parts = {"factors": None, "metadata": cohort.metadata[["sex"]], "preprocessing": None}
    others = [cohort._like(**{name: part}) for name, part in parts.items()]
    refused(
        [
            ("no block of brains", save_blocks, at, []),
            ("'sim-00000'.*occur twice", save_blocks, at, [cohort, cohort]),
            *((words, save_blocks, at, [cohort, other]) for other in others),
            (words, save_blocks, at, [cohort, simulate(2, shape=(80, 112))]),
        ]
    )
    assert list(tmp_path.iterdir()) == []
    assert len(open_cohort(save_blocks(tmp_path / "a", blocks(cohort)))) == N
