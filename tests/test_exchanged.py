"""MetaImages of another kind, and headers that exchange what the voxels tell apart."""

import itertools
import zlib

import numpy as np
import pytest
import tifffile
from refusals import refused
from test_volumes import SPACING, VOLUME, metaimage

from brainvae_core.cohorts.allen import check_order, registered_plane
from brainvae_core.cohorts.fetch import read_metaimage
from brainvae_core.cohorts.orientation import VolumeError
from brainvae_core.cohorts.volumes import in_atlas_space


def packed(header, voxels):
    """One file of a header and the voxels, deflated, as ITK writes a .mha."""
    head = header["a.mhd"].replace(b"ElementDataFile = a.raw\r\n", b"CompressedData = True\r\n")
    return {"a.mha": head + b"ElementDataFile = LOCAL\n" + voxels}


@pytest.mark.promise("a MetaImage with its data inside is read; a changed bit of it is refused")
def test_a_metaimage_with_its_data_inside(record_property):
    meta = metaimage()
    head = meta["a.mhd"].replace(b"= a.raw", b"= LOCAL")
    deflated = zlib.compress(meta["a.raw"], 1)
    for files in ({"a.mha": head + meta["a.raw"]}, packed(meta, deflated)):
        found = read_metaimage(files)
        assert in_atlas_space(found) == ("asr", SPACING) and np.array_equal(found.voxels, VOLUME)
    outside = meta | {"a.mhd": meta["a.mhd"] + b"CompressedData = True\n", "a.raw": deflated}
    assert np.array_equal(read_metaimage(outside).voxels, VOLUME)
    bits = np.random.default_rng(0).integers(0, 8 * len(deflated), 200)
    for bit in (*bits, 8 * len(deflated) - 1):
        damaged = bytearray(deflated)
        damaged[bit // 8] ^= 1 << bit % 8
        if bit // 8 > 1:  # before are the window and the level, which change no voxel
            refused([(".", read_metaimage, packed(meta, bytes(damaged)))])
    for wrong in (deflated[:-1], deflated[:-4], deflated[:99], b"", zlib.compress(b"1" * 10**6)):
        refused([(".", read_metaimage, packed(meta, wrong))])
    record_property("cases", len(bits) + 6)


@pytest.mark.promise("a header whose dimensions are exchanged is told from the voxels")
def test_exchanged_dimensions_are_told_from_the_voxels(record_property):
    shape = (66, 40, 114)
    grid = np.indices(shape, dtype=np.float32)
    smooth = 1000 + 500 * np.sin(sum(grid / 7)) + np.random.default_rng(0).normal(0, 50, shape)
    smooth[np.hypot(grid[1] - 20, grid[2] - 57) > 40] = 0
    noise = np.random.default_rng(0).integers(1, 60_000, shape)
    one_plane = smooth * (grid[0] == 7)
    for volume, is_told in ((smooth, 5), (one_plane, 5), (noise * (grid[0] == 7), 4), (noise, 0)):
        content, refusals = volume.astype(np.uint16).tobytes("F"), 0
        for said in itertools.permutations(shape):
            voxels = np.frombuffer(content, np.uint16).reshape(said, order="F")
            try:
                check_order(voxels)
            except VolumeError as error:
                assert said != shape and str(error).endswith("run as 66 × 40 × 114 would")
                refusals += 1
        assert refusals == is_told
    record_property("cases", 24)


def test_exchanged_dimensions_on_the_whole_grid():
    """The header agrees with itself and with the atlas; only the voxels tell."""
    plane = np.add.outer(np.arange(320), np.arange(456)).astype(np.uint16)
    voxels = np.zeros((528, 320, 456), np.uint16, order="F")
    voxels[280:290] = plane
    raw = voxels.tobytes("F")
    head = "DimSize = {}\nElementSpacing = 25 25 25\nElementType = MET_USHORT\n"
    head += "AnatomicalOrientation = {}\nElementDataFile = a.raw\n"
    sound = {"a.mhd": head.format("528 320 456", "ASR").encode(), "a.raw": raw}
    assert np.array_equal(registered_plane(sound, 286), plane)
    lying = sound | {"a.mhd": head.format("456 528 320", "RAI").encode()}
    assert in_atlas_space(read_metaimage(lying)) == ("rai", (25, 25, 25))
    refused([("voxels run as 528 × 320 × 456", registered_plane, lying, 286)])


def test_exchanged_dimensions_of_a_real_brain(real_data):
    brain = tifffile.imread(real_data / "individuals/swcA_stpt_ccf50.tif")
    content = brain.tobytes("F")
    check_order(brain)
    for said in set(itertools.permutations(brain.shape)) - {brain.shape}:
        exchanged = np.frombuffer(content, brain.dtype).reshape(said, order="F")
        refused([("the voxels run as", check_order, exchanged)])
