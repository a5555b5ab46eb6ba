"""One coronal section of a registered brain, from whatever file a lab keeps it in."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter, map_coordinates

from brainvae_core.cohorts.volume_headers import match_extents
from brainvae_core.cohorts.volumes import (
    CCF_EXTENT_UM,
    CCF_SHAPE_25,
    anatomical_axis,
    in_mm,
    read_header,
    read_plane,
    upright,
)

PIXEL_UM = 25.0
ARRAYS = (".npy", ".npz")
TIFFS = (".tif", ".tiff")
VOLUMES = (".nii", ".nii.gz", ".nrrd")
FORMATS = ARRAYS + TIFFS + VOLUMES
ACCEPTED = (
    "a brainreg output folder, a volume in atlas space (.nii, .nii.gz, .nrrd, .tif) or a "
    "registered section (.npy, .npz, .tif)"
)


def read_section(path: str | Path, plane: int = 286, orientation: str = "header") -> np.ndarray:
    """One coronal section of a brain that is registered to the atlas.

    Parameters
    ----------
    path : path
        A brainreg output folder, a volume in atlas space (``.nii``, ``.nii.gz``, ``.nrrd`` or a
        3-D ``.tif``), or a single registered section (``.npy``, ``.npz`` with one array, ``.tif``).
    plane : int
        0-based index on the AP axis of the 25 µm grid, counted from anterior. A single section is
        taken as the plane it was registered to.
    orientation : str
        ``"header"``: as the NIfTI affine says; other files run from anterior, superior and right.
        A code such as ``"psl"`` names where each axis of the file comes from and wins over it.

    Returns
    -------
    ndarray of float32, shape (320, 456)
        In the file's own grey values, rows from superior, columns from right. A single section
        that is not the whole plane at any voxel size keeps its own shape.

    Raises
    ------
    FileNotFoundError, ValueError
        Nothing there, another format, a damaged file, not grey values, a NaN, a volume that is
        not in atlas space, a plane outside it, or no such orientation.
    """
    check_orientation(orientation)
    path = Path(path)
    voxel_um = None
    name = path
    if path.is_dir():
        path, voxel_um = _brainreg_output(path)
    elif not path.is_file():
        raise FileNotFoundError(f"no section at {path}")
    suffix = suffix_of(path)
    if suffix not in FORMATS:
        raise ValueError(
            f"{path} is of a format that is not read; .npy, .npz and .tif are, and .nii and .nrrd"
        )
    try:
        if suffix in VOLUMES:
            return _volume_section(path, plane, orientation)
        if suffix in ARRAYS:
            return _own_plane(_only_array(path), orientation)
        with tifffile.TiffFile(path) as tiff:
            return _tiff_section(tiff, plane, orientation, voxel_um)
    except (ValueError, OSError, EOFError, BadZipFile, zlib.error) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{name} is no readable section: {reason}") from error


def check_orientation(code: str) -> None:
    """Refuse what is neither ``"header"`` nor a BrainGlobe code such as ``"asr"``."""
    letters = code if isinstance(code, str) else ""
    axes = [{"a": 0, "p": 0, "s": 1, "i": 1, "r": 2, "l": 2}.get(letter, -1) for letter in letters]
    if code != "header" and sorted(axes) != [0, 1, 2]:
        raise ValueError(
            f"orientation={code!r} is none; give 'header' or three letters, one each of a or p, "
            "s or i, r or l, such as 'asr'"
        )


def _brainreg_output(folder):
    """The brain's own image in atlas space, and the atlas's voxel size where it has a name."""
    about = folder / "brainreg.json"
    if not about.is_file():
        raise ValueError(f"{folder} has no brainreg.json; {ACCEPTED} is read")
    try:
        atlas = json.loads(about.read_text()).get("atlas", "")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{about} is not what brainreg writes; run brainreg again") from error
    images = [folder / "downsampled_standard.tiff"]
    if not images[0].is_file():
        images = sorted(folder.glob("downsampled_standard_*.tiff"))
    if len(images) != 1:
        found = ", ".join(image.name for image in images) or "none of this name"
        raise ValueError(
            f"{folder} has no downsampled_standard.tiff, the brain in atlas space ({found}); give "
            "the file itself or run brainreg again"
        )
    voxel = re.search(r"_(\d+(?:\.\d+)?)um", str(atlas))
    return images[0], float(voxel[1]) if voxel else None


def _volume_section(path, plane, orientation):
    def opened():
        return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")

    with opened() as stream:
        header = read_header(stream, path.name)
    # A spacing of 1 is what writers leave where they were told none.
    spacing = None if set(header.spacing_um or (1.0,)) in ({1.0}, {1000.0}) else header.spacing_um
    axes = orientation
    if orientation == "header":
        axes = header.orientation or _default_axes(header.shape, spacing, header.reversed_axes)
    sizes = _voxel_sizes(header.shape, axes, spacing)

    def stored(index):
        with opened() as stream:
            read_header(stream, path.name)
            slope, intercept = header.scaling
            return read_plane(stream, header, axes, index) * np.float32(slope) + np.float32(
                intercept
            )

    n_planes = header.shape[_ap_axis(axes)]
    return _on_atlas_grid(_between_planes(stored, plane, n_planes, sizes[0]), sizes[1:])


def _tiff_section(tiff, plane, orientation, voxel_um):
    series = tiff.series[0]
    if series.keyframe.samplesperpixel > 1:
        raise ValueError(f"it holds colours, shape {series.shape}; grey values are read")
    if len(series.shape) == 2:
        if _promised_planes(tiff) > 1:
            raise ValueError("it holds several planes of which one is readable; is it cut off?")
        return _own_plane(series.asarray(), orientation)
    if len(series.shape) != 3 or series.dtype.kind not in "biuf":
        raise ValueError(
            f"it holds {series.dtype} of shape {series.shape}; one (height, width) section or one "
            "volume of grey values is read"
        )
    axes = "asr" if orientation == "header" else orientation
    sizes = _voxel_sizes(series.shape, axes, voxel_um and [voxel_um] * 3)
    axis = _ap_axis(axes)

    def stored(index):
        if axes[axis] == "p":
            index = series.shape[axis] - 1 - index
        if len(series.pages) != series.shape[0]:
            found = series.asarray(out="memmap").take(index, axis)
        elif axis == 0:
            found = series.pages[index].asarray()
        else:
            found = np.stack([page.asarray().take(index, axis - 1) for page in series.pages])
        return upright(found, axes.replace(axes[axis], ""))

    n_planes = series.shape[axis]
    return _on_atlas_grid(_between_planes(stored, plane, n_planes, sizes[0]), sizes[1:])


def _promised_planes(tiff):
    """tifffile reads a stack that is cut off as its first plane."""
    images = (tiff.imagej_metadata or {}).get("images", 1)
    shape = (tiff.shaped_metadata or ({},))[0].get("shape", ())
    return max(len(tiff.pages), images, int(np.prod(shape[:-2])))


def _own_plane(section, orientation):
    """A single section, on the 25 µm grid if it is the atlas's whole plane."""
    if section.ndim != 2 or section.dtype.kind not in "biuf":
        raise ValueError(
            f"it holds {section.dtype} of shape {section.shape}; one (height, width) section "
            "of grey values is read"
        )
    if orientation != "header":
        section = upright(section, re.sub("[ap]", "", orientation))
    section = _finite(section)
    height, width = section.shape
    if height * CCF_EXTENT_UM[2] != width * CCF_EXTENT_UM[1]:
        return section
    return _on_atlas_grid(section, (CCF_EXTENT_UM[1] / height,) * 2)


def _default_axes(shape, spacing, backwards):
    found = spacing and match_extents(shape, spacing, CCF_EXTENT_UM, tolerance=1)
    pairs = [("ap", "si", "rl")[axis] for axis in found or range(3)]
    return "".join(pair[b] for pair, b in zip(pairs, backwards, strict=True))


def _voxel_sizes(shape, axes, spacing):
    """Sides of a voxel along AP, DV and ML in µm: the header's, else cubes that fill the atlas."""
    extents = [CCF_EXTENT_UM[anatomical_axis(letter)] for letter in axes]
    # Where one axis is a voxel longer, the roundest of the three is the voxel size meant.
    candidates = [e / n for e, n in zip(extents, shape, strict=True)]
    roundest = min(candidates, key=lambda v: abs(2 * v - round(2 * v)))
    voxels = [roundest] * 3 if spacing is None else spacing
    own = [n * v for n, v in zip(shape, voxels, strict=True)]
    if any(abs(o - e) > v for o, e, v in zip(own, extents, voxels, strict=True)):
        raise ValueError(
            f"its {' × '.join(map(str, shape))} voxels extend over {in_mm(own)}, the atlas over "
            f"{in_mm(extents)} along axes {axes!r}; give its orientation or register it to the "
            "atlas, for example with brainreg"
        )
    order = sorted(range(3), key=lambda i: anatomical_axis(axes[i]))
    return tuple(round(float(voxels[i]), 3) for i in order)


def _between_planes(stored, plane, n_planes, voxel_um):
    """The plane at its place along AP, between two stored planes where it falls between."""
    if not 0 <= plane < CCF_SHAPE_25[0]:
        raise ValueError(f"plane {plane} is outside the atlas; 0 to {CCF_SHAPE_25[0] - 1} exist")
    place = min(plane * PIXEL_UM / voxel_um, n_planes - 1)
    low = int(place)
    section = _finite(stored(low))
    if place > low:
        section += np.float32(place - low) * (_finite(stored(low + 1)) - section)
    return section


def _on_atlas_grid(section, voxel_um):
    """A plane of voxels of (DV, ML) µm on the 25 µm grid."""
    ratios = [PIXEL_UM / size for size in voxel_um]
    section = gaussian_filter(section, [max(0, ratio - 1) / 2 for ratio in ratios])
    # Voxel i lies at i × spacing: the atlas's coarser volumes are every n-th voxel of its finer.
    places = np.indices(CCF_SHAPE_25[1:], dtype=np.float32)
    places *= np.float32(ratios)[:, None, None]
    return map_coordinates(section, places, order=1, mode="nearest")


def _finite(section):
    if section.dtype.kind not in "biuf":
        raise ValueError(f"it holds {section.dtype}; grey values are read")
    section = section.astype(np.float32)
    if not np.isfinite(section).all():
        raise ValueError("it has a NaN or infinite pixel")
    return section


def _ap_axis(axes):
    return next(i for i, letter in enumerate(axes) if letter in "ap")


def suffix_of(path: Path) -> str:
    """The format's suffix in lower case, ``.nii.gz`` included."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def _only_array(path):
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        if len(content.files) != 1:
            raise ValueError(f"it holds arrays {', '.join(content.files)}; a file with one is read")
        return content[content.files[0]]
