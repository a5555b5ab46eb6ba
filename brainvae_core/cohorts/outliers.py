"""Which brains are no usable sections, judged after their brightness was adjusted.

By how far each of four statistics of the whole brain is from the training brains' median, in robust
standard deviations (1.4826 times the median absolute deviation):

- ``difference``: root mean square from the training brains' median section, over the brightness
- ``missing``: share of the brain darker than a fifth of the brightness
- ``saturated``: share brighter than the median training brain's 99.9th percentile
- ``gain``: logarithm of the factor that the adjustment took

The first three count upwards, the gain both ways. The limit is far out: an outlier is a section
that is no usable brain, not one with an artefact, which is what `artefact_scores` is for.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainvae_core.cohorts.artefacts import is_outlier, median_section
from brainvae_core.cohorts.atlas import Atlas

BRIGHT_PERCENTILE = 99.9  # of a brain's pixels: what is brighter is a leak or dirt
DARK = 0.2  # of the target brightness: darker is ventricle, or missing tissue
OUTLIER_LIMIT = 6.0  # robust standard deviations
# Smallest spread that counts as one: without it the first brain that differs at all from
# brains that are all alike would be an outlier.
SPREAD_FLOOR = {
    "difference": 0.01,  # of the target brightness
    "missing": 0.01,  # of the brain's pixels
    "saturated": 0.01,
    "gain": 0.05,  # log
}


def judge(
    images: np.ndarray, metadata: pd.DataFrame, atlas: Atlas, brightness: float, limit: float
) -> tuple[pd.DataFrame, dict, dict, float]:
    """Add what the outlier rule finds to a cohort's metadata.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        In raw greys, each scaled to the mean ``brightness`` inside the brain.
    metadata : DataFrame
        One row a brain, with ``split`` and ``gain``.
    atlas : Atlas
    brightness : float
    limit : float
        Robust standard deviations from which a brain is an outlier.

    Returns
    -------
    metadata : DataFrame
        With the columns ``difference_z``, ``missing_z``, ``saturated_z``, ``gain_z`` and
        ``outlier``: the statistics that reach the limit, joined by ", ", or "none".
    centre, spread : dict of float
        Of each statistic over the training brains.
    bright : float
        The grey that counts as saturated.

    Raises
    ------
    ValueError
        Fewer than 3 training brains are no outliers.
    """
    is_train = (metadata["split"] == "train").to_numpy()
    statistics, bright = _statistics(images, metadata["gain"], is_train, atlas, brightness)
    centre = statistics[is_train].median()
    mad = (statistics[is_train] - centre).abs().median()
    spread = np.maximum(1.4826 * mad, pd.Series(SPREAD_FLOOR))
    z = (statistics - centre) / spread
    over = z.assign(gain=z["gain"].abs()) >= limit
    reasons = over.apply(lambda row: ", ".join(z.columns[row]) or "none", axis=1)
    metadata = metadata.assign(outlier=reasons, **z.add_suffix("_z"))
    ordinary = int((is_train & ~is_outlier(metadata)).sum())
    if ordinary < 3:
        raise ValueError(
            f"{ordinary} of {is_train.sum()} training brains are no outliers and 3 are needed to "
            f"compare with; give more brains or raise outlier_limit={limit:g}"
        )
    return metadata, centre.to_dict(), spread.to_dict(), bright


def _statistics(images, gains, is_train, atlas, brightness):
    """The four statistics of every brain, and the grey that counts as saturated."""
    inside = atlas.brain_mask
    tops = [np.percentile(images[i][inside], BRIGHT_PERCENTILE) for i in np.flatnonzero(is_train)]
    bright = float(np.median(tops))
    # What a leak saturates is for `saturated` to tell; the difference is that of the tissue.
    usual = np.minimum(median_section(images, is_train)[inside], bright)
    rows = []
    for image, gain in zip(images, gains, strict=True):
        pixels = image[inside]
        rest = np.minimum(pixels, bright) - usual
        rows.append(
            {
                "difference": np.sqrt(np.mean(rest**2, dtype=np.float64)) / brightness,
                "missing": (pixels < DARK * brightness).mean(),
                "saturated": (pixels > bright).mean(),
                "gain": np.log(gain),
            }
        )
    return pd.DataFrame(rows, index=gains.index), bright
