"""One section of a brain from any file: what the file holds, which way its axes run, one grid."""

from __future__ import annotations

import gzip
import io
import json
import re
from dataclasses import dataclass, replace
from itertools import permutations
from math import prod
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import nrrd
import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter, map_coordinates

from brainvae_core.cohorts.files import brainreg_folders, describe_damage, error_line, not_fetched
from brainvae_core.cohorts.greys import MOST_VOXELS, as_greys, nrrd_scaling, read_tiff
from brainvae_core.cohorts.orientation import (
    OF_TIFF_TAG,
    VolumeError,
    along_axes,
    axis_order,
    check_orientation,
    coronal_plane,
    nifti_orientation,
    nrrd_space,
    one_code,
    upright,
)

PIXEL_UM = 25.0
SHAPE_25 = (528, 320, 456)  # AP, DV, ML
EXTENT_UM = (13200.0, 8000.0, 11400.0)
FORMATS = (".npy", ".npz", ".tif", ".tiff", ".nii", ".nii.gz", ".nrrd")
ACCEPTED = "a brainreg folder, a volume (.nii, .nii.gz, .nrrd, .tif) or section (.npy, .npz, .tif)"


def read_section(path: str | Path, plane: int = 286, orientation: str = "header") -> np.ndarray:
    """One coronal section of a brain that is registered to the atlas.

    Parameters
    ----------
    path : path
        A brainreg output folder, a volume in atlas space (``.nii``, ``.nii.gz``, ``.nrrd`` or a
        3-D ``.tif``), or a single registered section (``.npy``, ``.npz`` with one array, ``.tif``).
    plane : int
        0-based index on the AP axis of the 25 µm grid; a single section is taken as that plane.
    orientation : str
        ``"header"``: as a NIfTI or NRRD header says; TIFF and NumPy have no word for it and run as
        brainreg writes, from anterior, superior and right, a TIFF's tag Orientation applied. A code
        such as ``"psl"`` names where each axis of the file comes from and wins over all of this.

    Returns
    -------
    ndarray of float32, shape (320, 456)
        In the file's greys, rows from superior, columns from right; a single section that is not
        the whole plane keeps its own shape.
    """
    check_orientation(orientation)
    name = Path(path)
    path, voxel_um = _brainreg_output(name) if name.is_dir() else (name, None)
    of_folder = "" if path == name else f"no readable section: {path.name} is "
    if why := not_fetched(path):
        raise ValueError(f"{name} is {of_folder}{why}")
    if not path.is_file():
        raise FileNotFoundError(f"no section at {path}")
    suffix = suffix_of(path)
    if suffix not in FORMATS:
        raise ValueError(f"{path} is of a format that is not read; {ACCEPTED} is")
    try:
        if suffix.startswith(".np"):
            with path.open("rb") as file:
                found = np.load(file, allow_pickle=False)
                arrays = [found] if suffix == ".npy" else [*found.values()]
                if suffix == ".npy":
                    _check_end(file)
            if len(arrays) != 1:
                raise ValueError(f"it holds {len(arrays)} arrays; a file with one is read")
            return _single_section(arrays[0], orientation)
        if not suffix.startswith(".tif"):
            with path.open("rb") as file:
                return _section_of(read_volume(path.name, file), plane, orientation)
        with tifffile.TiffFile(path) as tiff:
            voxels, scaling, said_um = read_tiff(tiff)
            letters = OF_TIFF_TAG.get(int(tiff.pages[0].tags.valueof(274, 1)), "sr")
        if voxels.ndim == 2:
            code = f"a{letters}" if orientation == "header" else orientation
            return _single_section(voxels, code, scaling)
        spacing = voxel_um and (voxel_um,) * 3
        volume = Volume(voxels, spacing, f"a{letters}", scaling)
        return _section_of(volume, plane, orientation, said_um)
    except Exception as error:  # of whichever library: it stops this brain, in one line
        what = of_folder.replace(" is ", ": ") or "no readable section: "
        raise ValueError(f"{name} is {what}{describe_damage(path, error)}") from error


def _brainreg_output(folder):
    """The brain's image in atlas space, and the atlas's voxel size where its name says it."""
    found = brainreg_folders(folder)
    if len(found) != 1:
        name = "downsampled_standard.tiff"
        beside = f"; give its {name} itself as a brain" if (folder / name).is_file() else ""
        several = f"{folder} holds several brains ({', '.join(f.name for f in found)}); give one"
        why = several if found else f"{folder} has no brainreg.json{beside}; {ACCEPTED} is read"
        raise ValueError(why)
    (folder,) = found
    about = folder / "brainreg.json"
    try:
        atlas = json.loads(about.read_text()).get("atlas", "")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{about} is not what brainreg writes; run brainreg again") from error
    name = "downsampled_standard.tiff"
    images = [*folder.glob(name)] or sorted(folder.glob("downsampled_standard_*.tiff"))
    if len(images) != 1:
        found = ", ".join(image.name for image in images) or "nor another"
        raise ValueError(f"{folder} has no {name} ({found}); give the file itself as a brain")
    voxel = re.search(r"_(\d+(?:\.\d+)?)um", str(atlas))
    return images[0], float(voxel[1]) if voxel else None


def _single_section(section, orientation, scaling=(1, 0)):
    """On the 25 µm grid if it is the atlas's whole plane."""
    if section.ndim != 2 or not section.size:
        raise ValueError(f"it holds an array of shape {section.shape}; one (height, width) is read")
    if orientation != "header":
        section = upright(section, re.sub("[ap]", "", orientation))
    section = as_greys(section, scaling)
    height, width = section.shape
    if height * EXTENT_UM[2] != width * EXTENT_UM[1]:
        return section
    return _on_atlas_grid(section, (EXTENT_UM[1] / height,) * 2)


def _section_of(volume, plane, orientation, otherwise_um=None):
    """The plane at its place along AP, between two stored planes where it falls between."""
    if not 0 <= plane < SHAPE_25[0]:
        raise ValueError(f"plane {plane} is outside the atlas; 0 to {SHAPE_25[0] - 1} exist")
    try:
        axes, (ap_um, *sides_um) = in_atlas_space(volume, orientation)
    except VolumeError:
        if volume.spacing_um or not otherwise_um:
            raise
        volume = replace(volume, spacing_um=otherwise_um)
        axes, (ap_um, *sides_um) = in_atlas_space(volume, orientation)

    def stored(index):
        return as_greys(coronal_plane(volume.voxels, axes, index), volume.scaling)

    n_planes = volume.voxels.shape[re.search("[ap]", axes).start()]
    place = min(plane * PIXEL_UM / ap_um, n_planes - 1)
    low = int(place)
    section = stored(low)
    if place > low:
        section += np.float32(place - low) * (stored(low + 1) - section)
    return _on_atlas_grid(section, sides_um)


def _on_atlas_grid(section, voxel_um):
    """A plane of voxels of (DV, ML) µm on the 25 µm grid."""
    ratios = [PIXEL_UM / size for size in voxel_um]
    section = gaussian_filter(section, [max(0, ratio - 1) / 2 for ratio in ratios])
    # Voxel i lies at i × spacing: the atlas's coarser volumes are every n-th voxel of its finer.
    places = np.indices(SHAPE_25[1:], dtype=np.float32)
    places *= np.float32(ratios)[:, None, None]
    return map_coordinates(section, places, order=1, mode="nearest")


# ---- whole volumes ----


@dataclass(frozen=True)
class Volume:
    """A volume as a file stores it; None is what its header does not say."""

    voxels: np.ndarray  # stored values, three axes in the file's order
    spacing_um: tuple[float, float, float] | None
    orientation: str | None = None  # where each axis comes from, such as "asr"
    scaling: tuple[float, float] = (1.0, 0.0)  # slope and intercept to measured values


def read_volume(name: str, file: BinaryIO) -> Volume:
    """The volume in an open .nrrd, .nii or .nii.gz file of this name, or a `VolumeError`."""
    suffix = suffix_of(Path(name))
    file = gzip.GzipFile(fileobj=file) if suffix == ".nii.gz" else file
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # of a damaged header's numbers
            volume = _read_nrrd(file) if suffix == ".nrrd" else _read_nifti(file)
        if volume.voxels.dtype.kind not in "iuf":
            raise VolumeError(f"voxels are {volume.voxels.dtype}; grey values are read")
    except Exception as error:  # of whichever library
        raise VolumeError(error_line(error)) from error
    return volume


def _read_nrrd(file):
    fields = nrrd.read_header(file)
    if {"data file", "datafile"} & set(fields):
        raise VolumeError("NRRD header names a detached data file; one file with both is read")
    shape = checked_shape(fields.get("sizes", ()))
    if fields["encoding"] in ("gzip", "gz"):  # pynrrd checks neither its end nor its checksum
        file = io.BytesIO(gzip.GzipFile(fileobj=file).read(8 * prod(shape) + 1))
        fields["encoding"] = "raw"
    voxels = nrrd.read_data(fields, file)
    _check_end(file)
    spacing, orientation = fields.get("spacings"), None
    if "space directions" in fields:
        towards = nrrd_space(fields.get("space"))
        spacing, orientation = along_axes(fields["space directions"], towards)
    scaling = nrrd_scaling(fields, voxels.dtype)
    return Volume(voxels, in_micrometres(spacing, shape), orientation, scaling)


def _read_nifti(file):
    size = file.read(4)
    file.seek(0)
    is_second = 540 in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
    image = (nib.Nifti2Image if is_second else nib.Nifti1Image).from_stream(file)
    header, stored = image.header, image.dataobj
    shape = checked_shape(stored.shape[:3] if set(stored.shape[3:]) <= {1} else stored.shape)
    voxels = stored.get_unscaled().reshape(shape, order="F")
    file.seek(stored.offset + voxels.nbytes)
    _check_end(file)
    spacing, orientation = nifti_orientation(header) or (header.get_zooms()[:3], None)
    scaling = (float(stored.slope), float(stored.inter))
    return Volume(voxels, in_micrometres(spacing, shape), orientation, scaling)


# ---- held against the atlas ----


def in_atlas_space(volume: Volume, orientation: str = "header") -> tuple[str, tuple]:
    """Where a volume's axes come from, and the sides of a voxel along AP, DV and ML in µm.

    A `VolumeError` where the header does not say it, or where the extents along these axes, which
    all differ, are not the atlas's to a voxel. Voxels without a size are taken as cubes that fill
    the atlas. The Allen Institute's own files say ``"rai"`` of axes that run ``"asr"`` by their
    extents: they are read as what they hold.
    """
    axes = one_code(volume.orientation) if orientation == "header" else orientation
    if orientation == "header" and axes == "rai" and _is_atlas(volume, "asr"):
        axes = "asr"
    spacing, own, extents = _extents(volume, axes)
    if not _is_atlas(volume, axes):
        own, extents = (" × ".join(f"{e / 1000:.2f}" for e in many) for many in (own, extents))
        cubes = f", taken as cubes of {spacing[0]:.4g} µm since the file gives them no size,"
        sized = "" if volume.spacing_um else cubes
        raise VolumeError(
            f"its {' × '.join(map(str, volume.voxels.shape))} voxels{sized} extend over {own} mm, "
            f"the atlas over {extents} mm along axes {axes!r}; give its orientation"
            f"{', a format that says the size of voxels' * bool(sized)} or register it to the "
            "atlas, for example with brainreg"
        )
    order = axis_order(axes)
    return axes, tuple(round(float(spacing[order.index(i)]), 3) for i in range(3))


def _extents(volume, axes):
    """Sides of a voxel, the volume's extents and the atlas's, in the file's order."""
    shape, spacing = volume.voxels.shape, volume.spacing_um
    extents = [EXTENT_UM[i] for i in axis_order(axes)]
    if spacing is None:
        # Where one axis is a voxel longer, the roundest of the three is the voxel size meant.
        candidates = [extent / n for extent, n in zip(extents, shape, strict=True)]
        spacing = [min(candidates, key=lambda v: abs(2 * v - round(2 * v)))] * 3
    return spacing, [n * side for n, side in zip(shape, spacing, strict=True)], extents


def _is_atlas(volume, axes):
    return all(abs(o - e) <= side for side, o, e in zip(*_extents(volume, axes), strict=True))


def suffix_of(path: Path) -> str:
    """The format's suffix in lower case, ``.nii.gz`` included."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def checked_shape(sizes) -> tuple[int, ...]:
    """A volume's three sizes, or why a header's numbers are none."""
    shape = tuple(int(s) for s in sizes)
    if len(shape) != 3 or min(shape) < 1 or prod(shape) > MOST_VOXELS:
        sizes = " × ".join(map(str, shape))
        raise VolumeError(f"volume has sizes {sizes}; three are read, up to {MOST_VOXELS} voxels")
    return shape


def _check_end(file):
    if file.read(1):
        raise VolumeError("bytes are left over after the voxels")


def in_micrometres(spacing, shape):
    """Headers give micrometres or millimetres and seldom say which: what fits the atlas is it."""
    if spacing is None:
        return None
    as_said = tuple(abs(float(s)) for s in spacing)
    if len(as_said) != 3 or not all(0 < s < np.inf for s in as_said):
        raise VolumeError(f"voxel spacing {as_said} is not three lengths above 0")
    if set(as_said) in ({1.0}, {1000.0}):
        return None  # what writers leave where they were told none
    enlarged = tuple(round(1000 * s, 6) for s in as_said)
    if _fits_atlas(shape, as_said):
        return as_said
    return enlarged if _fits_atlas(shape, enlarged) or max(as_said) < 1 else as_said


def _fits_atlas(shape, spacing_um):
    """Whether the three extents are the atlas's to half a voxel, in one order of axes alone."""
    found = [
        {i for i, extent in enumerate(EXTENT_UM) if abs(n * d - extent) <= d / 2}
        for n, d in zip(shape, spacing_um, strict=True)
    ]
    orders = permutations(range(3))
    return sum(all(i in fits for i, fits in zip(o, found, strict=True)) for o in orders) == 1
