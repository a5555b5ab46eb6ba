"""A cohort that stays on disk: brain for brain the one in memory, and damage is told."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainvae_core.cohorts import Cohort, open_cohort, save_blocks, simulate, stream_cohort
from brainvae_core.cohorts.cohort import SPLITS
from brainvae_core.models import BetaVAEConfig, PCAConfig, fit

N, SHAPE = 17, (40, 56)


def renamed(cohort, start):
    """The same brains under ids of their own."""
    ids = pd.Index([f"mouse-{start + i:04}" for i in range(len(cohort))], name="brain")
    factors = cohort.factors.set_axis(ids)
    metadata = cohort.metadata.set_axis(ids)
    return Cohort(cohort.images, metadata, cohort.atlas, factors=factors, name="blocks")


@pytest.fixture(scope="module")
def cohort():
    return simulate(N, shape=SHAPE, seed=4)


@pytest.fixture(scope="module")
def saved(cohort, tmp_path_factory):
    return cohort.save(tmp_path_factory.mktemp("streamed") / "cohort.zarr")


@pytest.fixture(scope="module")
def streamed(saved):
    return stream_cohort(saved)


def test_a_streamed_cohort_is_the_one_in_memory(cohort, streamed):
    assert (len(streamed), streamed.images.shape) == (N, (N, *SHAPE))
    assert streamed.images.dtype == np.float32 and streamed.images.ndim == 3
    assert repr(streamed) == repr(cohort)
    pd.testing.assert_frame_equal(streamed.metadata, cohort.metadata)
    pd.testing.assert_frame_equal(streamed.factors, cohort.factors)
    assert np.array_equal(streamed.atlas.annotation, cohort.atlas.annotation)
    assert np.array_equal(np.asarray(streamed.images), cohort.images)
    assert np.asarray(streamed.images, dtype=np.float64).dtype == np.float64


def test_both_name_the_same_runs_whole_split_and_split_anew(cohort, streamed):
    assert streamed.fingerprint == cohort.fingerprint
    for part in SPLITS:
        assert streamed.split(part).fingerprint == cohort.split(part).fingerprint
        assert np.array_equal(streamed.split(part).images[:], cohort.split(part).images)
        assert streamed.split(part).metadata.equals(cohort.split(part).metadata)
    assert streamed.with_split(7).fingerprint == cohort.with_split(7).fingerprint
    assert streamed.with_split(7).fingerprint != streamed.fingerprint


rows = st.integers(-N, N - 1)
ends = st.none() | st.integers(-N - 2, N + 2)


@given(
    st.one_of(
        rows,
        st.lists(rows, min_size=1),
        st.lists(rows, min_size=1).map(np.array),
        st.lists(st.booleans(), min_size=N, max_size=N).map(np.array),
        st.builds(slice, ends, ends, st.sampled_from([None, 1, 2, -1, -3])),
    )
)
def test_indexing_is_numpys(cohort, streamed, which):
    found, expected = streamed.images[which], cohort.images[which]
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.array_equal(found, expected)


@given(st.lists(rows, min_size=1).map(np.array), st.data())
def test_a_part_of_a_part_is_numpys_too(cohort, streamed, first, data):
    then = data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1))
    assert np.array_equal(streamed.select(first).images[then], cohort.images[first][then])
    assert streamed.select(first).metadata.index.equals(cohort.metadata.index[first])


@pytest.mark.parametrize("which", [N, [0, N], -N - 1])
def test_a_row_that_is_not_there_is_an_index_error(streamed, which):
    with pytest.raises(IndexError):
        streamed.images[which]


def test_what_is_read_is_the_readers_own_and_may_be_written_to(cohort, streamed):
    images = streamed.images[[3, 3]]
    images[0] = 0
    assert np.array_equal(images[1], cohort.images[3])
    assert np.array_equal(streamed.images[[3]][0], cohort.images[3])


def test_opening_reads_no_image_and_a_brain_reads_one_file(saved, tmp_path):
    path = shutil.copytree(saved, tmp_path / "copy.zarr")
    chunks = sorted(p.name for p in (path / "images").iterdir() if p.name[0] != ".")
    assert chunks == sorted(f"{i}.0.0" for i in range(N))
    for i in set(range(N)) - {5}:
        (path / "images" / f"{i}.0.0").unlink()
    assert stream_cohort(path).images[5].shape == SHAPE


def test_threads_read_at_once_and_none_gets_anothers_brain(cohort, streamed):
    barrier = threading.Barrier(4)

    def read(seed):
        barrier.wait()
        which = np.random.default_rng(seed).integers(0, N, (20, 7))
        return all(np.array_equal(streamed.images[w], cohort.images[w]) for w in which)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))


def test_a_fit_to_the_stream_is_the_fit_in_memory(cohort, streamed, tmp_path):
    config = BetaVAEConfig(latent_dim=3, steps=6, batch_size=4, validate_every=3)
    in_memory = fit(cohort, config, tmp_path / "in memory", device="cpu")
    from_disk = fit(streamed, config, tmp_path / "streamed", device="cpu")
    assert from_disk.folder.name == in_memory.folder.name
    ours, theirs = from_disk.model.tensors(), in_memory.model.tensors()
    for name, values in theirs.items():
        assert np.allclose(ours[name], values, rtol=1e-4, atol=1e-6), name
    losses = [[row["validation_loss"] for row in r.history] for r in (from_disk, in_memory)]
    assert np.allclose(*losses, rtol=1e-5)


def test_pca_takes_a_stream_too(cohort, streamed, tmp_path):
    in_memory = fit(cohort, PCAConfig(2), tmp_path / "in memory")
    from_disk = fit(streamed, PCAConfig(2), tmp_path / "streamed")
    assert from_disk.folder.name == in_memory.folder.name
    assert from_disk.history == in_memory.history


# ---- damage ----


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty", "another's"])
def test_a_damaged_brain_is_told_when_it_is_read_and_the_others_are_read(saved, tmp_path, damage):
    path = shutil.copytree(saved, tmp_path / "copy.zarr")
    chunk = path / "images" / "4.0.0"
    content = chunk.read_bytes()
    if damage == "missing":
        chunk.unlink()
    elif damage == "another's":
        chunk.write_bytes(content[:16] + bytes(len(content) - 16))
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        chunk.write_bytes({"truncated": content[:middle], "flipped": flipped, "empty": b""}[damage])
    streamed = stream_cohort(path)
    assert streamed.images[[3, 5]].shape == (2, *SHAPE)
    with pytest.raises(
        ValueError, match="brain 'sim-00004' in .* is missing or damaged"
    ) as refusal:
        streamed.images[2:6]
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError):
        open_cohort(path)


def test_every_flipped_bit_of_a_brain_is_noticed(saved, tmp_path):
    path = shutil.copytree(saved, tmp_path / "copy.zarr")
    chunk, images = path / "images" / "4.0.0", stream_cohort(path).images
    content, truth = chunk.read_bytes(), images[4]
    for place in np.random.default_rng(0).integers(0, len(content), 200):
        chunk.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            assert np.array_equal(images[4], truth)  # a bit that means nothing
        except ValueError as error:
            assert "damaged" in str(error)


@pytest.mark.parametrize("variable", ["annotation", "factors", "metadata_split", "brain"])
def test_damaged_labels_are_refused_at_once(saved, tmp_path, variable):
    path = shutil.copytree(saved, tmp_path / "copy.zarr")
    next(p for p in (path / variable).iterdir() if not p.name.startswith(".")).unlink()
    with pytest.raises(ValueError, match="damaged"):
        stream_cohort(path)


def test_what_is_no_cohort_is_refused(tmp_path, saved):
    with pytest.raises(FileNotFoundError, match="no cohort at .*nowhere"):
        stream_cohort(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not a readable cohort"):
        stream_cohort(tmp_path)


def test_a_cohort_from_before_is_refused_with_what_to_do(cohort, tmp_path):
    dataset = cohort.to_dataset()
    del dataset.attrs["labels_checksum"], dataset.attrs["fingerprint"]
    dataset.to_zarr(tmp_path / "old.zarr", zarr_format=2, consolidated=True)
    assert open_cohort(tmp_path / "old.zarr").fingerprint == cohort.fingerprint
    with pytest.raises(ValueError, match=r"save it anew with open_cohort\(path\).save\(other\)"):
        stream_cohort(tmp_path / "old.zarr")


# ---- written block by block ----


def blocks(cohort, sizes=(5, 1, 11)):
    starts = np.cumsum([0, *sizes[:-1]])
    return (cohort.select(np.arange(a, a + n)) for a, n in zip(starts, sizes, strict=True))


def test_blocks_make_the_cohort_that_was_never_in_memory(cohort, tmp_path):
    whole = renamed(cohort, 100).with_split(3)
    path = save_blocks(
        tmp_path / "deep" / "blocks.zarr", blocks(renamed(cohort, 100)), split_seed=3
    )
    opened, streamed = open_cohort(path), stream_cohort(path)
    assert opened.fingerprint == streamed.fingerprint == whole.fingerprint
    assert np.array_equal(opened.images, whole.images)
    pd.testing.assert_frame_equal(opened.metadata, whole.metadata, check_dtype=False)
    pd.testing.assert_frame_equal(opened.factors, whole.factors)
    assert (opened.name, opened.clean, opened.artefact_masks) == ("blocks", None, None)
    assert [p.name for p in path.parent.iterdir()] == ["blocks.zarr"]


def test_blocks_keep_their_own_split_where_no_seed_is_given(cohort, tmp_path):
    path = save_blocks(tmp_path / "a.zarr", blocks(cohort), name="kept")
    assert stream_cohort(path).metadata["split"].equals(cohort.metadata["split"])
    assert stream_cohort(path).name == "kept"


def test_ids_of_growing_length_are_whole(cohort, tmp_path):
    parts = list(blocks(renamed(cohort, 9990)))
    path = save_blocks(tmp_path / "a.zarr", parts)
    assert stream_cohort(path).metadata.index[-1] == "mouse-10006"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_nothing_and_the_next_succeeds(cohort, tmp_path, error):
    def fails():
        yield from list(blocks(cohort))[:2]
        raise error

    with pytest.raises(type(error)):
        save_blocks(tmp_path / "a.zarr", fails())
    assert list(tmp_path.iterdir()) == []
    assert len(stream_cohort(save_blocks(tmp_path / "a.zarr", blocks(cohort)))) == N


def test_blocks_that_do_not_fit_together_are_refused(cohort, tmp_path):
    path = tmp_path / "a.zarr"
    bare = Cohort(cohort.images, cohort.metadata, cohort.atlas)
    for others, words in (
        ([], "no block of brains"),
        ([cohort, cohort], "'sim-00000'.*occur twice"),
        ([cohort, bare], "other columns"),
        ([cohort, simulate(2, shape=(80, 112))], "another atlas"),
    ):
        with pytest.raises(ValueError, match=words) as refusal:
            save_blocks(path, others)
        assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_cohort_is_never_overwritten(cohort, saved):
    with pytest.raises(FileExistsError, match="a cohort is never overwritten"):
        save_blocks(saved, blocks(cohort))
