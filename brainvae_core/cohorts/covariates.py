"""What is known of each brain, planted or recorded, as numbers that can be set against latents."""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainvae_core.cohorts.cohort import Cohort

DERIVED = ("artefact", "artefact_strength", "gain", "outlier", "product_id", "split")


def known_factors(cohort: Cohort) -> pd.DataFrame:
    """The planted factors of a simulated cohort, else what is recorded of each brain and varies.

    Recorded are the numbers in its metadata, texts of two kinds such as sex as 0 and 1 (named after
    the kind that is 1, such as ``sex M``), and ``log_gain`` of the brightness adjustment.

    Returns
    -------
    DataFrame of float, n_brains rows
        A missing value is its column's mean. A column with one value only, in the cohort or in a
        part of its split, is left out, so there may be none.
    """
    if cohort.factors is not None:
        return cohort.factors.astype(float)
    metadata, found = cohort.metadata, {}
    for name, values in metadata.items():
        if name in DERIVED or name.endswith(("_z", "_score")):
            continue
        kinds = sorted(values.dropna().astype(str).unique())
        numbers = pd.to_numeric(values, errors="coerce")
        if numbers.notna().sum() == values.notna().sum():
            found[name] = numbers
        elif len(kinds) == 2:
            found[f"{name} {kinds[1]}"] = values.astype(str).map({kinds[0]: 0.0, kinds[1]: 1.0})
    if "gain" in metadata:
        found["log_gain"] = np.log(metadata["gain"])
    factors = pd.DataFrame(found, index=metadata.index, dtype=float)
    factors = factors.replace([np.inf, -np.inf], np.nan)
    factors = factors.fillna(factors.mean())
    split = metadata.get("split", pd.Series("train", index=metadata.index))
    parts = [part for name, part in factors.groupby(split) if name in ("train", "test")]
    varies = [all(part[name].nunique() > 1 for part in parts) for name in factors]
    return factors.loc[:, varies]


def factor_extremes(
    factors: pd.DataFrame, images: np.ndarray, share: float = 0.05
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean section of the brains lowest and of those highest in each factor.

    Parameters
    ----------
    factors : DataFrame, n rows
    images : ndarray, shape (n, height, width)
    share : float
        Of the brains at either end, in (0, 0.5]; at least one brain. Brains that tie with the last
        of them are included: of a 0/1 factor that occurs often enough the ends are its two groups.

    Returns
    -------
    dict of name to (low, high), each (height, width)

    Raises
    ------
    ValueError
        Other numbers of factors' rows and images, or a share outside its range.
    """
    if len(factors) != len(images) or not len(images):
        raise ValueError(
            f"{len(factors)} rows of factors and {len(images)} images; give one row an image"
        )
    if not 0 < share <= 0.5:
        raise ValueError(f"share={share} is outside (0, 0.5]")
    few = max(int(share * len(images)), 1)
    extremes = {}
    for name, values in factors.items():
        ranked = np.sort(values)
        low, high = (values <= ranked[few - 1]).to_numpy(), (values >= ranked[-few]).to_numpy()
        extremes[str(name)] = (images[low].mean(axis=0), images[high].mean(axis=0))
    return extremes
