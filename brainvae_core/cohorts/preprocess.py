"""What makes registered sections comparable, which are no usable brains, and what is known of them.

A section is cropped, averaged in blocks, scaled to the training brains' average brightness and
divided by the grey that becomes 1. Everything that is fitted is fitted on the training brains.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from brainvae_core.cohorts.artefacts import (
    ARTEFACTS,
    CLEAN_LIMIT,
    artefact_scores,
    is_outlier,
    median_section,
    reference_brains,
)
from brainvae_core.cohorts.atlas import AUTHORS_CROP, Atlas, block_mean, whole_factor
from brainvae_core.cohorts.cohort import SET_ASIDE, Cohort, check_brains
from brainvae_core.cohorts.copies import check_split, copies_of, split_together
from brainvae_core.cohorts.greys import brain_brightness, unwrapped
from brainvae_core.cohorts.turned import turned_sections

FORMAT = 1
BRIGHT_PERCENTILE = 99.9  # of a brain's pixels: what is brighter is a leak or dirt
MOST_CONTRAST = 20  # of the brightest pixels to the average
DARK = 0.2  # of the target brightness: darker is ventricle, or missing tissue
# Robust standard deviations. Far out: an outlier is a section that is no usable brain, not one with
# an artefact, which is what `artefact_scores` is for.
OUTLIER_LIMIT = 6.0
# Smallest spread of each outlier statistic that counts as one: without it the first brain that
# differs at all from brains that are all alike would be an outlier.
SPREAD_FLOOR = {
    "difference": 0.01,  # root mean square from the median section, of the target brightness
    "missing": 0.01,  # share of the brain's pixels that are dark
    "saturated": 0.01,  # share that is brighter than the median brain's 99.9th percentile
    "gain": 0.05,  # log of the factor that adjusted the brightness; counts both ways
}
# Columns of metadata that say what was done to a brain, not what it is.
DERIVED = (
    "artefact",
    "artefact_strength",
    "copy_of",
    "gain",
    "outlier",
    "product_id",
    "split",
    "turned",
)


@dataclass(frozen=True)
class Preprocessing:
    """What sections went through, fitted on training brains; enough to do it to another section.

    Attributes
    ----------
    brightness : float
        Mean grey inside the brain that every section is scaled to: the training brains' average.
    white : float
        Grey, after that scaling, that becomes 1 and at which brighter pixels end. With
        ``clip_pixels`` the 99.9th percentile of the pixels of the median training brain; without,
        the brightest pixel of the training sections that are no outliers and free of artefacts.
    clip_pixels : bool
        Whether ordinary brains' brightest pixels are clipped too.
    drop_brains : bool
        Whether outliers were set aside.
    outlier_limit : float
        Robust standard deviations from which a brain is an outlier.
    centre, spread : dict of float
        Median and robust standard deviation of each outlier statistic over the training brains.
    """

    brightness: float
    white: float
    clip_pixels: bool = True
    drop_brains: bool = False
    outlier_limit: float = OUTLIER_LIMIT
    centre: dict[str, float] | None = None
    spread: dict[str, float] | None = None

    def __post_init__(self):
        for name in ("brightness", "white", "outlier_limit"):
            value = getattr(self, name)
            if not 0 < value < np.inf:
                raise ValueError(f"{name}={value} of a preprocessing must be positive and finite")

    def to_dict(self) -> dict:
        """Plain numbers, for JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def of(cls, cohort: Cohort) -> Preprocessing:
        """The cohort's own; of a simulated one the training brains' brightness, and 1 as white."""
        if cohort.preprocessing is not None:
            return cls(**{k: v for k, v in cohort.preprocessing.items() if k != "format"})
        train = cohort.split("train").images
        return cls(brightness=float(train[:, cohort.atlas.brain_mask].mean()), white=1.0)


def comparable_section(
    section: np.ndarray, atlas: Atlas, preprocessing: Preprocessing
) -> np.ndarray:
    """A registered section on a cohort's own grid and grey values.

    Parameters
    ----------
    section : ndarray, shape (320, 456) or (320, 448), or the atlas's own
        On the CCF's 25 µm grid, in any grey values; columns 4 to 452 of 456 are kept.
    atlas : Atlas
    preprocessing : Preprocessing
        What the cohort went through (``Preprocessing.of(cohort)``). A brain of it comes out as it
        is there.
    """
    section = on_grid(section, atlas)
    section *= preprocessing.brightness / brain_brightness(section, atlas.brain_mask)
    return _in_range(section, preprocessing.white)


def preprocess(
    sections,
    metadata: pd.DataFrame,
    atlas: Atlas,
    *,
    shape: tuple[int, int] | None = None,
    seed: int = 0,
    clip_pixels: bool = True,
    drop_brains: bool = False,
    outlier_limit: float = OUTLIER_LIMIT,
    refused: dict[str, str] | None = None,
    name: str = "cohort",
) -> Cohort:
    """Registered sections in raw greys → a cohort: split, cropped, of one brightness, in [0, 1].

    Parameters
    ----------
    sections : sequence of ndarray, as `comparable_section` takes them
    metadata : DataFrame
        One row a section, indexed by a unique brain id. A ``split`` that it has is kept; otherwise
        copies of a brain come to one part. 15 different brains are the fewest. What is no
        section for `comparable_section` is refused and told, and the other brains go on.
    atlas : Atlas
    shape : (height, width), optional
        Whole-number reduction of the atlas's shape; else the atlas's own.
    seed : int
        Of the split, which comes before any fit.
    clip_pixels, drop_brains, outlier_limit
        As in `Preprocessing`. Outliers that are dropped stay readable, as the split "set aside".
    refused, name
        As in `Cohort`.

    Notes
    -----
    Adds ``preprocessing`` and the columns ``split``, ``copy_of`` (where there are any), ``gain``,
    ``difference_z``, ``missing_z``, ``saturated_z``, ``gain_z``, ``outlier`` (the statistics that
    reach the limit, or "none"), ``turned`` (how it fits the template better, or "none"),
    ``leak_score``, ``breakage_score``, ``grid_score`` (`artefact_scores`) and, where there is no
    truth, ``artefact``: the kind of the highest score where that reaches 4, else "none".
    """
    grid = atlas if shape is None else atlas.resampled(shape)
    check_brains(metadata, name, len(sections))
    images, own, unusable = _read(sections, metadata.index, grid)
    metadata, refused = metadata.drop(index=list(unusable)), unusable | (refused or {})
    original = copies_of(images, own, metadata.index)
    metadata = metadata.assign(split=metadata.get("split", split_together(original, seed)))
    check_split(metadata["split"], original, refused)
    if (is_copy := (original != metadata.index).to_numpy()).any():
        metadata["copy_of"] = original.where(is_copy)
        told = ", ".join(f"{copy} and {of}" for copy, of in original[is_copy].items())
        print(f"brains with the same pixels, kept in one part of the split: {told}")
    is_train = (metadata["split"] == "train").to_numpy()
    brightness = float(own[is_train].mean())
    metadata["gain"] = brightness / own
    images *= metadata["gain"].to_numpy(np.float32)[:, None, None]
    statistics, white = _statistics(images, metadata["gain"], is_train, grid, brightness)
    if white > MOST_CONTRAST * brightness:
        raise ValueError(
            f"the training brains' brightest pixels are {white / brightness:.0f} times as bright "
            "as the brains are on average, so all tissue would be black; look for damaged pixels, "
            "such as negative values stored without a sign"
        )
    centre = statistics[is_train].median()
    mad = (statistics[is_train] - centre).abs().median()
    spread = np.maximum(1.4826 * mad, pd.Series(SPREAD_FLOOR))
    z = (statistics - centre) / spread
    over = z.assign(gain=z["gain"].abs()) >= outlier_limit
    reasons = over.apply(lambda row: ", ".join(z.columns[row]) or "none", axis=1)
    metadata = metadata.assign(outlier=reasons, **z.add_suffix("_z"))
    is_out, ordinary = is_outlier(metadata).to_numpy(), reference_brains(metadata)
    if ordinary.sum() < 3:
        raise ValueError(
            f"{ordinary.sum()} of {is_train.sum()} training brains are no outliers and 3 are "
            f"needed to compare with; give more brains or raise outlier_limit={outlier_limit:g}"
        )
    # Before the brightest pixels are clipped: they are what tells a leak.
    scores = artefact_scores(images, ordinary, grid)
    columns = {f"{kind}_score": column for kind, column in zip(ARTEFACTS, scores.T, strict=True)}
    if "artefact" not in metadata:
        likeliest = np.take(list(ARTEFACTS), scores.argmax(axis=1))
        columns["artefact"] = np.where(scores.max(axis=1) >= CLEAN_LIMIT, likeliest, "none")
    metadata = metadata.assign(**columns)
    if not clip_pixels:
        free = ordinary & (scores < CLEAN_LIMIT).all(axis=1)
        ordinary = free if free.any() else ordinary
        white = max(float(images[i].max()) for i in np.flatnonzero(ordinary))
    images = _in_range(images, white)
    metadata["turned"] = turned_sections(images, grid, is_train)
    if drop_brains:
        metadata.loc[is_out, "split"] = SET_ASIDE
    limit, of_train = float(outlier_limit), (centre.to_dict(), spread.to_dict())
    fitted = Preprocessing(brightness, white, clip_pixels, drop_brains, limit, *of_train)
    return Cohort(
        images, metadata, grid, preprocessing=fitted.to_dict(), refused=refused, name=name
    )


def judged(cohort: Cohort, outlier_limit: float = OUTLIER_LIMIT) -> Cohort:
    """A cohort with what quality control finds in it, as it is where it went through it before."""
    if cohort.preprocessing is not None:
        return cohort
    given = {"outlier_limit": outlier_limit, "refused": cohort.refused, "name": cohort.name}
    found = preprocess(cohort.images, cohort.metadata, cohort.atlas, **given)
    if lost := cohort.metadata.index.difference(found.metadata.index).tolist():
        raise ValueError(f"brain {lost[0]!r} of {cohort.name!r}: {found.refused[lost[0]]}")
    return found


def _read(sections, brains, grid):
    """Usable sections on the grid in raw greys, their mean brightness, and why others are none."""
    images = np.empty((len(brains), *grid.shape), dtype=np.float32)
    own, unusable = [], {}
    for i, brain in enumerate(brains):
        try:  # a usable one takes the place of one that is none
            images[len(own)] = on_grid(sections[i], grid)
            own.append(brain_brightness(images[len(own)], grid.brain_mask))
        except ValueError as error:
            unusable[brain] = str(error)
    if unusable:
        first, why = next(iter(unusable.items()))
        told = f"{len(brains)} brains are refused; the first, {first!r}: {why}"
        if not own:
            raise ValueError(f"all {told}")
        print(f"{len(unusable)} of {told}")
    return images[: len(own)], np.array(own), unusable


def on_grid(section, atlas: Atlas) -> np.ndarray:
    """A section, as `comparable_section` takes it, on the atlas's grid in its own greys."""
    section = unwrapped(np.asarray(section))
    if section.shape == (320, 456):
        section = section[:, AUTHORS_CROP]
    factor = whole_factor(section.shape, atlas.shape)
    if not factor:
        raise ValueError(
            f"section of shape {section.shape} does not fit the cohort's {atlas.shape}; 320 × 456 "
            "(25 µm), 320 × 448 or the cohort's own do"
        )
    if not np.isfinite(section).all():
        raise ValueError("section has a NaN or infinite pixel")
    return block_mean(section, factor)


def _in_range(image, white):
    """Adjusted greys → [0, 1], in place."""
    image /= np.float32(white)
    return np.clip(image, 0, 1, out=image)


def _statistics(images, gains, is_train, atlas, brightness):
    """What `SPREAD_FLOOR` names of every brain, and the grey that counts as saturated."""
    inside = atlas.brain_mask
    tops = [np.percentile(images[i][inside], BRIGHT_PERCENTILE) for i in np.flatnonzero(is_train)]
    bright = float(np.median(tops))
    # What a leak saturates is for `saturated` to tell; the difference is that of the tissue.
    usual = np.minimum(median_section(images, is_train)[inside], bright)
    rows = []
    for image, gain in zip(images, gains, strict=True):
        pixels = image[inside]
        rest = np.minimum(pixels, bright) - usual
        difference = np.sqrt(np.mean(rest**2, dtype=np.float64)) / brightness
        dark, saturated = (pixels < DARK * brightness).mean(), (pixels > bright).mean()
        rows.append((difference, dark, saturated, np.log(gain)))
    return pd.DataFrame(rows, index=gains.index, columns=list(SPREAD_FLOOR)), bright


def known_factors(cohort: Cohort) -> pd.DataFrame:
    """The planted factors of a simulated cohort, else what is recorded of each brain and varies.

    Recorded are the numbers in its metadata, texts of two kinds such as sex as 0 and 1 (named after
    the kind that is 1, such as ``sex M``), and ``log_gain`` of the brightness adjustment. A missing
    value is its column's mean. A column of one value, in the cohort or in a part of its split, is
    left out.
    """
    if cohort.factors is not None:
        return cohort.factors.astype(float)
    metadata, found = cohort.metadata, {}
    for name, values in metadata.items():
        if name in DERIVED or name.endswith(("_z", "_score")):
            continue
        kinds = sorted(values.dropna().astype(str).unique())
        numbers = pd.to_numeric(values, errors="coerce")
        if np.isfinite(numbers[values.notna()]).all():
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
        Of the brains at either end, in (0, 0.5]; at least one, and all that tie with the last: of
        a 0/1 factor that occurs often enough the ends are its two groups.
    """
    if len(factors) != len(images) or not len(images):
        raise ValueError(f"{len(factors)} rows of factors and {len(images)} images")
    if not 0 < share <= 0.5:
        raise ValueError(f"share={share} is outside (0, 0.5]")
    few = max(int(share * len(images)), 1)
    extremes = {}
    for name, values in factors.items():
        ranked = np.sort(values)
        low, high = (values <= ranked[few - 1]).to_numpy(), (values >= ranked[-few]).to_numpy()
        extremes[str(name)] = (images[low].mean(axis=0), images[high].mean(axis=0))
    return extremes
