"""Artefacts of every kind at every strength: what models make of them, in tables for figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from brainvae_core.metrics.checks import reconstructed
from brainvae_core.metrics.denoising import ArtefactRemoval, artefact_removal
from brainvae_core.metrics.uncertainty import UNBOUNDED, Estimate, estimate

SHARES = ("reproduced", "pattern", "kept", "recovered")


def graded_removal(model, graded, mean_image: np.ndarray) -> ArtefactRemoval:
    """What a model makes of the same brains with every artefact at every strength.

    Parameters
    ----------
    model
        Anything with ``reconstruct(images)``, or with ``encode`` and ``decode``.
    graded
        Has ``clean`` (n_brains, height, width), ``images`` and ``masks`` (n_kinds, n_strengths,
        n_brains, height, width), and ``pixel_um``: ``graded_artefacts``.
    mean_image : ndarray, shape (height, width)
        Of the training brains.

    Returns
    -------
    ArtefactRemoval
        Of arrays (n_kinds, n_strengths, n_brains).
    """
    *cells, n, height, width = graded.images.shape
    times = int(np.prod(cells))
    flat = graded.images.reshape(-1, height, width)
    found = artefact_removal(
        np.tile(graded.clean, (times, 1, 1)),
        flat,
        graded.masks.reshape(flat.shape),
        np.tile(reconstructed(model, graded.clean), (times, 1, 1)),
        reconstructed(model, flat),
        mean_image,
        graded.pixel_um,
    )
    return ArtefactRemoval(*(getattr(found, what).reshape(*cells, n) for what in SHARES))


def removal_by_share(fits: Mapping[str, Sequence[ArtefactRemoval]]) -> dict[str, dict]:
    """Several models' removals, regrouped: by share, by model, (n_fits, …, n_brains)."""
    return {
        what: {name: np.stack([getattr(r, what) for r in found]) for name, found in fits.items()}
        for what in SHARES
    }


def painted_back(
    fits: Mapping[object, Sequence[ArtefactRemoval]], kinds: Sequence[str]
) -> dict[str, dict]:
    """How much of each artefact comes back, mean over strengths.

    Parameters
    ----------
    fits : mapping of model to sequence of ArtefactRemoval
        Of `graded_removal`, a fit each.
    kinds : sequence of str
        The kinds in their order. Of a grid its lines (``pattern``) are told from the darkening of
        the whole brain, which is most of ``reproduced``.

    Returns
    -------
    dict of artefact to dict of model to ndarray, each (n_fits, n_brains)
    """
    parts = {}
    for k, kind in enumerate(kinds):
        parts |= (
            {"grid's lines": ("pattern", k), "grid's darkening": ("reproduced", k)}
            if kind == "grid"
            else {kind: ("reproduced", k)}
        )
    return {
        part: {
            name: np.stack([getattr(r, what)[k].mean(axis=0) for r in found])
            for name, found in fits.items()
        }
        for part, (what, k) in parts.items()
    }


def graded_table(
    values: Mapping[str, np.ndarray], graded, what: str = "", bounds=UNBOUNDED
) -> dict[str, dict[str, dict[float, Estimate]]]:
    """Estimates by kind of artefact, model and strength, as figures want them.

    Parameters
    ----------
    values : mapping of model to ndarray, each (n_fits, n_kinds, n_strengths, n_brains)
    graded
        Has ``kinds`` and ``strengths``.
    what : str
        What the values are, for the titles: ``"Leak: kept"``; without it ``"Leak"``.
    bounds : (low, high)
        What a value cannot pass.

    Returns
    -------
    dict of title to dict of model to dict of strength to Estimate
    """
    return {
        kind.capitalize() + (f": {what}" if what else ""): {
            name: {
                strength: estimate(found[:, k, s], bounds=bounds)
                for s, strength in enumerate(graded.strengths)
            }
            for name, found in values.items()
        }
        for k, kind in enumerate(graded.kinds)
    }
