"""A cohort as a lab hands it in: registered sections, some turned, and its table of brains."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter, shift

from brainvae_core.cohorts import drawn_atlas
from brainvae_core.cohorts.atlas import AUTHORS_CROP

TURNS = {
    "none": lambda a: a,
    "upside down": lambda a: a[::-1],
    "mirrored": lambda a: a[:, ::-1],
    "rotated by 180°": lambda a: a[::-1, ::-1],
}


def asymmetric_brains(n, white, offset, spread, shape=(80, 112)):
    """An atlas whose midline lies off the grid's, as the CCF's does, and n brains on it."""
    drawn, rng = drawn_atlas().resampled(shape), np.random.default_rng(0)
    atlas = replace(drawn, template=white * shift(drawn.template, [0, offset], order=1))
    shading = gaussian_filter(rng.normal(size=(n, *shape)), (0, 10, 10))
    noise = rng.normal(0, 0.02, (n, *shape))
    return atlas, atlas.template * (1 + spread * shading / shading.std() + noise)


def write_lab(folder, cohort, white=20_000):
    """One NPY a brain on the 320 × 456 grid, and ``metadata.csv`` without the planted truth.

    Brains of a coarser cohort come back as they are; greys are whole numbers, 1 becomes ``white``.
    """
    folder.mkdir(parents=True)
    factor = 320 // cohort.atlas.shape[0]
    for brain, image in zip(cohort.metadata.index, cohort.images, strict=True):
        section = np.zeros((320, 456), dtype=np.uint16)
        section[:, AUTHORS_CROP] = np.rint(white * image).repeat(factor, 0).repeat(factor, 1)
        np.save(folder / f"{brain}.npy", section)
    recorded = cohort.metadata.drop(
        columns=["artefact", "artefact_strength", "gain"], errors="ignore"
    )
    recorded.to_csv(folder / "metadata.csv", index_label="brain")
    return folder
