"""What makes registered sections comparable, which are no usable brains, and which are copies.

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
from brainvae_core.cohorts.cohort import (
    LEAST_BRAINS,
    SET_ASIDE,
    SPLITS,
    Cohort,
    check_brains,
    split_of,
)
from brainvae_core.cohorts.greys import brain_brightness, unwrapped
from brainvae_core.cohorts.orientation import section_orientations

FORMAT = 1
SAME = 0.003  # of copies: root mean square difference, of the mean brightness; two brains: 0.04
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


@dataclass(frozen=True)
class Preprocessing:
    """What sections went through, fitted on training brains; enough to do it to another section.

    ``white`` is, with ``clip_pixels``, the 99.9th percentile of the pixels of the median training
    brain; without, the brightest pixel of the training sections that are no outliers and free of
    artefacts.
    """

    brightness: float  # mean grey inside the brain that every section is scaled to
    white: float  # grey, after that scaling, that becomes 1 and at which brighter pixels end
    clip_pixels: bool = True  # ordinary brains' brightest pixels too
    drop_brains: bool = False  # whether outliers were set aside
    outlier_limit: float = OUTLIER_LIMIT  # robust standard deviations
    centre: dict[str, float] | None = None  # median of each outlier statistic, of training brains
    spread: dict[str, float] | None = None  # its robust standard deviation

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
        ``Preprocessing.of(cohort)``, of whose brains each comes out as it is there (a simulated
        cohort's at one brightness).
    """
    return with_gain(section, atlas, preprocessing)[0]


def comparable_sections(sections, atlas: Atlas, preprocessing: Preprocessing) -> np.ndarray:
    """As `comparable_section`, of several: (n, height, width)."""
    return np.stack([comparable_section(section, atlas, preprocessing) for section in sections])


def with_gain(section, atlas: Atlas, preprocessing: Preprocessing) -> tuple[np.ndarray, float]:
    """As `comparable_section`, and by what its greys were multiplied."""
    section = on_grid(section, atlas)
    gain = preprocessing.brightness / brain_brightness(section, atlas.brain_mask)
    section *= gain
    return _in_range(section, preprocessing.white), gain


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
        What is none is refused and told, and the other brains go on. 15 different brains are the
        fewest.
    metadata : DataFrame
        One row a section, indexed by a unique brain id. A ``split`` that it has is kept; otherwise
        copies of a brain come to one part.
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
    Adds the columns ``split``, ``copy_of`` (where there are any), ``gain``, a ``…_z`` for each
    outlier statistic, ``outlier`` (the statistics that reach the limit, or "none"), ``turned`` (how
    it fits the template better, or "none"), ``leak_score``, ``breakage_score``, ``grid_score`` and,
    where there is no truth, ``artefact``: the kind of the highest score from 4 on, else "none".
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
        pairs = ", ".join(f"{copy} and {of}" for copy, of in original[is_copy].items())
        print(f"brains with the same pixels, kept in one part of the split: {pairs}")
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
    metadata["turned"] = section_orientations(images, grid, is_train)
    if drop_brains:
        metadata.loc[is_out, "split"] = SET_ASIDE
    of_train = float(outlier_limit), centre.to_dict(), spread.to_dict()
    fitted = Preprocessing(brightness, white, clip_pixels, drop_brains, *of_train)
    return Cohort(
        images, metadata, grid, preprocessing=fitted.to_dict(), refused=refused, name=name
    )


def run_quality_control(cohort: Cohort, outlier_limit: float = OUTLIER_LIMIT) -> Cohort:
    """A cohort with what quality control finds in it, as it is where it went through it before."""
    if cohort.preprocessing is not None:
        return cohort
    given = {"outlier_limit": outlier_limit, "refused": cohort.refused, "name": cohort.name}
    own = cohort.metadata.get("gain", pd.Series(1.0, cohort.metadata.index))  # equalised before
    images = cohort.images / own.to_numpy(np.float32)[:, None, None]
    found = preprocess(images, cohort.metadata, cohort.atlas, **given)
    if lost := cohort.metadata.index.difference(found.metadata.index).tolist():
        raise ValueError(f"brain {lost[0]!r} of {cohort.name!r}: {found.refused[lost[0]]}")
    return found


def equalise_brightness(cohort: Cohort) -> Cohort:
    """A simulated cohort, every section as bright as the training brains are on average.

    ``gain`` is by what each was multiplied; the factor of a section's brightness goes.
    """
    if cohort.clean is None:
        raise ValueError(f"cohort {cohort.name!r} is not simulated: take preprocess")
    fitted, changed = Preprocessing.of(cohort), {}
    for part in ("clean", "images"):
        adjusted = [with_gain(section, cohort.atlas, fitted) for section in getattr(cohort, part)]
        changed[part], gains = map(np.stack, zip(*adjusted, strict=True))
    factors = cohort.factors.drop(columns="brightness", errors="ignore")
    return cohort._like(**changed, metadata=cohort.metadata.assign(gain=gains), factors=factors)


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
        line = f"{len(brains)} brains are refused; the first, {first!r}: {why}"
        if not own:
            raise ValueError(f"all {line}")
        print(f"{len(unusable)} of {line}")
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


# ---- copies of a brain ----


def copies_of(images: np.ndarray, own: np.ndarray, brains: pd.Index) -> pd.Series:
    """Of every brain the first one with the same pixels, itself where it is no copy.

    A copy at another brightness (``own``: each brain's mean) or with fewer grey levels is one too.
    """
    height, width = images.shape[1:]
    factor = next(f for f in (4, 2, 1) if height % f == width % f == 0)
    flat = np.stack([block_mean(i, factor).ravel() / o for i, o in zip(images, own, strict=True)])
    flat -= flat.mean(axis=0)
    squares = np.einsum("np,np->n", flat, flat, dtype=np.float64)
    first = np.arange(len(brains))
    for i in range(1, len(brains)):
        apart = squares[:i] + squares[i] - 2 * (flat[:i] @ flat[i])
        same = np.flatnonzero(apart < SAME**2 * flat.shape[1])
        first[i] = first[same[0]] if same.size else i
    return pd.Series(brains[first], index=brains)


def split_together(original: pd.Series, seed: int) -> pd.Series:
    """As `split_of`, every brain on the side of the one that it is a copy of."""
    brains = original.index
    split = split_of(brains[(original == brains).to_numpy()], seed)
    return pd.Series(split.loc[original].to_numpy(), index=brains)


def check_split(split: pd.Series, original: pd.Series, refused: dict[str, str]) -> None:
    """Refuse a split with copies on two sides, or with too few brains (`check_parts`)."""
    other = split.loc[original].to_numpy()
    if (apart := np.flatnonzero(split.to_numpy() != other)).size:
        copy, of = split.index[apart[0]], original.iloc[apart[0]]
        raise ValueError(
            f"brains {of!r} ({split[of]}) and {copy!r} ({split[copy]}) have the same pixels; "
            "leave one of them, or put both in one part of the split"
        )
    check_parts(split, original, refused)


def check_parts(split: pd.Series, original: pd.Series, refused: dict[str, str]) -> None:
    """Refuse too few different brains to fit and judge on.

    The first of the brains that are not among them are named, with the reasons.
    """
    counts = {part: original[(split == part).to_numpy()].nunique() for part in SPLITS}
    different = sum(counts.values())
    first = "; ".join(f"{brain!r}: {why}" for brain, why in [*refused.items()][:2])
    also = f"; {len(refused)} were refused, the first {first}" if refused else ""
    if different < LEAST_BRAINS:
        raise ValueError(
            f"{different} different brains are too few; give {LEAST_BRAINS} or more{also}"
        )
    if min(counts.values()) < 2 or counts["train"] < 3:
        found = ", ".join(f"{n} {part}" for part, n in counts.items())
        raise ValueError(f"the split has {found} brains; each part needs 2, train 3{also}")
