"""The atlas slice a cohort shares: which structure every pixel belongs to."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

AUTHORS_CROP = slice(4, 452)  # of 456 columns; on plane 286 the tissue ends at 432


@dataclass(frozen=True, eq=False)
class Atlas:
    """One coronal atlas slice.

    ``annotation`` (height, width) is the CCF structure id of every pixel, 0 outside the brain, DV
    down and ML across; ``template`` the average brightness in [0, 1]; ``structures`` a table of
    ``id``, ``acronym``, ``name`` and ``parent_id`` (0 at the root).
    """

    annotation: np.ndarray
    template: np.ndarray
    structures: pd.DataFrame
    pixel_um: float
    name: str  # what a caption calls it
    terms: str = ""  # whose it is and how it is cited, where it is not the project's own

    def __post_init__(self):
        if self.annotation.ndim != 2 or self.annotation.shape != self.template.shape:
            raise ValueError(
                f"annotation {self.annotation.shape} and template {self.template.shape} of atlas "
                f"{self.name!r} must be one (height, width)"
            )
        unknown = np.setdiff1d(np.unique(self.annotation), [0, *self.structures["id"]])
        if unknown.size:
            raise ValueError(
                f"atlas {self.name!r} has pixels of structure ids {unknown[:5].tolist()} that its "
                "structures table does not name"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.annotation.shape

    @property
    def brain_mask(self) -> np.ndarray:
        """Every labelled pixel, (height, width) bool."""
        return self.annotation > 0

    @property
    def acronyms(self) -> list[str]:
        """Acronyms with at least one pixel in this slice, counting descendants, in table order."""
        parent = self.structures.set_index("id")["parent_id"]
        present = frontier = {*np.unique(self.annotation[self.brain_mask]).tolist()}
        while frontier:
            frontier = {*parent[[*frontier]].tolist()} - present - {0}
            present = present | frontier
        return self.structures.loc[self.structures["id"].isin(present), "acronym"].tolist()

    def descendants(self, acronym: str) -> np.ndarray:
        """Ids of a structure and of everything below it."""
        rows = self.structures.loc[self.structures["acronym"] == acronym, "id"]
        if rows.empty:
            near = difflib.get_close_matches(acronym, self.acronyms, n=3, cutoff=0.4)
            raise ValueError(
                f"no structure {acronym!r} in atlas {self.name!r}; did you mean "
                f"{', '.join(near) or 'another'}? This slice has {self._offer()}"
            )
        return and_below(self.structures, rows.to_numpy())

    def regions(self, least_share: float = 0.01) -> list[str]:
        """The finest regions of this slice that do not overlap and are not too small, by acronym.

        From the root down, a region gives way to its parts wherever one of them has at least
        ``least_share`` of the brain's pixels; layers of a cortical area do not count as parts.
        """
        if not 0 < least_share <= 1:
            raise ValueError(f"least_share={least_share} must lie in (0, 1]")
        least = least_share * self.brain_mask.sum()
        structures = self.structures.set_index("id")
        parts = structures.groupby("parent_id").groups
        own = dict(zip(*np.unique(self.annotation, return_counts=True), strict=True))

        def pixels(structure):
            return own.get(structure, 0) + sum(map(pixels, parts.get(structure, ())))

        def is_layer(structure):
            return re.search(r"\blayers?\b", structures.at[structure, "name"], re.IGNORECASE)

        def finest(structure):
            below = [part for part in parts.get(structure, ()) if not is_layer(part)]
            if found := [region for part in below for region in finest(part)]:
                return found
            return [structures.at[structure, "acronym"]] if pixels(structure) >= least else []

        found = [region for root in parts[0] for region in finest(root)]
        if not found:
            raise ValueError(f"no region of atlas {self.name!r} has {least_share:.1%} of it")
        return found

    def roi_masks(self, acronyms: Sequence[str], side: str = "both") -> np.ndarray:
        """Pixels of each region, descendants included, (n_rois, height, width) bool.

        ``side`` is the hemisphere as seen in the image, "left" or "right", or "both". A region
        without a pixel here is an error.
        """
        if isinstance(acronyms, str) or not len(acronyms):
            raise ValueError(f"acronyms must be a list such as ['SSp', 'HPF'], not {acronyms!r}")
        right = np.arange(self.shape[1]) >= self.shape[1] / 2
        sides = {"both": np.ones_like(right), "left": ~right, "right": right}
        if side not in sides:
            raise ValueError(f"side={side!r} must be one of {', '.join(sides)}")
        masks = np.stack([np.isin(self.annotation, self.descendants(a)) for a in acronyms])
        masks &= sides[side]
        empty = [a for a, mask in zip(acronyms, masks, strict=True) if not mask.any()]
        if empty:
            raise ValueError(
                f"{', '.join(empty)} exists but has no pixel in atlas {self.name!r}"
                f"{'' if side == 'both' else f' on its {side} side'}; "
                f"this slice has {self._offer()}"
            )
        return masks

    def resampled(self, shape: tuple[int, int]) -> Atlas:
        """The same slice with fewer pixels: a block's mean brightness and most frequent label."""
        factor = whole_factor(self.shape, shape)
        if not factor:
            height, width = self.shape
            possible = [f for f in (1, 2, 4, 8) if height % f == width % f == 0]
            allowed = ", ".join(f"{height // f}×{width // f}" for f in possible)
            raise ValueError(
                f"cannot resample atlas {self.name!r} of {height}×{width} to "
                f"{'×'.join(map(str, shape))}; reductions such as {allowed} are possible"
            )
        return replace(
            self,
            annotation=_block_majority(self.annotation, factor),
            template=block_mean(self.template, factor),
            pixel_um=self.pixel_um * factor,
        )

    def _offer(self) -> str:
        names = self.acronyms
        return ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")


def and_below(structures, ids):
    """These ids, and those of everything that hangs from them."""
    found = frontier = ids
    while frontier.size:
        below = structures["parent_id"].isin(frontier)
        frontier = structures.loc[below, "id"].to_numpy()
        found = np.concatenate([found, frontier])
    return found


def whole_factor(fine, coarse) -> int:
    """By which whole number one shape is another on both axes; 0 where there is none."""
    factor = fine[0] // coarse[0] if len(fine) == len(coarse) == 2 and coarse[0] > 0 else 0
    return factor if tuple(fine) == tuple(size * factor for size in coarse) else 0


def block_mean(images: np.ndarray, factor: int) -> np.ndarray:
    """Mean over ``factor`` × ``factor`` blocks of (…, height, width), as float32."""
    *lead, height, width = images.shape
    blocks = np.reshape(images, (*lead, height // factor, factor, width // factor, factor))
    return blocks.mean(axis=(-3, -1), dtype=np.float32)


def _block_majority(labels: np.ndarray, factor: int) -> np.ndarray:
    """Most frequent label of each block; the smallest id where two are equally frequent."""
    ids = np.unique(labels)
    return ids[np.argmax([block_mean(labels == i, factor) for i in ids], axis=0)]
