"""A lab's own brains beside a reference cohort: made comparable, and whether they can be judged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainvae_core.cohorts.artefacts import reference_brains
from brainvae_core.cohorts.atlas import block_mean, whole_factor
from brainvae_core.cohorts.cohort import Cohort, check_brains
from brainvae_core.cohorts.orientation import TURNED, correlation, section_orientations
from brainvae_core.cohorts.preprocess import Preprocessing, copies_of, with_gain

GAIN = "gain_to_reference"  # in the brains' table, beside a lab's own columns
LEAST_FIT = 1 / 3  # of the median reference brain's fit: less is no section of this kind
MOST_AWAY = 12  # planes of 25 µm; three of the simulator's standard deviations are 0.3 mm
UNTOLD = "sides cannot be told"
MANY = 200  # reference brains are enough to know what is usual
UNLIKE_Z = -3.0  # robust standard deviations of the reference brains' fit


def comparable_brains(
    sections,
    metadata: pd.DataFrame,
    reference: Cohort,
    *,
    refused: dict[str, str] | None = None,
    name: str = "lab",
) -> Cohort:
    """A lab's registered sections on a reference cohort's grid and greys, from one brain on.

    Parameters
    ----------
    sections : sequence of ndarray, as `comparable_section` takes them
    metadata : DataFrame
        One row a section, indexed by a unique brain id; it is kept, with `GAIN` besides: the
        factor from the lab's greys to the reference's.
    reference : Cohort
    refused, name
        As in `Cohort`. Brains that cannot be compared are added to the refused, each with why. Of
        copies of one brain the first is taken, and none where their rows differ.
    """
    check_brains(metadata, name, len(sections))
    atlas, refused = reference.atlas, dict(refused or {})
    preprocessing, images, gain = Preprocessing.of(reference), {}, {}
    for brain, section in zip(metadata.index, sections, strict=True):
        try:
            images[brain], gain[brain] = with_gain(section, atlas, preprocessing)
        except ValueError as error:
            refused[brain] = str(error)
    refused |= _copies(images, metadata, atlas)
    kept = [brain for brain in images if brain not in refused]
    if not kept:
        why = "; ".join(f"{brain}: {refused[brain]}" for brain in metadata.index[:1])
        raise ValueError(f"none of the {len(metadata)} brains of {name!r} can be compared; {why}")
    return Cohort(
        np.stack([images[brain] for brain in kept]),
        metadata.loc[kept].assign(**{GAIN: [gain[brain] for brain in kept]}),
        atlas,
        preprocessing=preprocessing.to_dict(),
        refused=refused,
        name=name,
    )


def _copies(images, metadata, atlas):
    """Brains that are left out because another has the same pixels, and why."""
    if not images:
        return {}
    brains, stack = pd.Index(images), np.stack([*images.values()])
    original = copies_of(stack, stack[:, atlas.brain_mask].mean(axis=1), brains)
    out, known = {}, metadata.astype(object).where(metadata.notna(), "")
    for of, copies in original.groupby(original):
        rows = known.loc[copies.index]
        for brain, row in rows.iterrows():
            differ = rows.ne(row)
            if differ.any(axis=None):
                other = differ.any(axis=1).idxmax()
                names = ", ".join(differ.columns[differ.loc[other]])
                out[brain] = (
                    f"it has the same pixels as {other} and another {names}; give each brain its "
                    "own file, or leave one row and one file"
                )
            elif brain != of:
                out[brain] = f"it has the same pixels as {of}, which is taken; remove one of them"
    return out


def suitability(
    brains: Cohort, reference: Cohort, planes: dict[int, np.ndarray] | None = None
) -> pd.DataFrame:
    """Whether each brain is a section of the kind that a reference cohort is made of.

    Parameters
    ----------
    brains, reference : Cohort
        As `comparable_brains` makes the first from the second.
    planes : dict of int to ndarray, optional
        Templates of neighbouring planes, at the size of the cohort or a whole number finer; the one
        that is most like the atlas's own template is the reference's plane.

    Returns
    -------
    DataFrame, by brain
        ``fit``: correlation with the mean reference brain inside the brain. ``fit_z``: Fisher's z
        of it, in robust standard deviations from the median reference brain. ``contrast``: "as the
        reference", "inverted" or "other". ``turned``: as in `preprocess`, or "sides cannot be
        told" where the reference is too symmetric. ``plane``: the best of ``planes``, else NaN.
        ``gain``: of the lab's units. ``unsuited``: "", or why no score of this brain would mean
        anything. ``unlike``: "", or that it fits worse than the reference brains do.
    """
    atlas, inside = reference.atlas, reference.atlas.brain_mask
    if brains.atlas.shape != atlas.shape:
        raise ValueError(f"brains of {brains.atlas.shape} and a reference of {atlas.shape} pixels")
    usual = reference.images[np.flatnonzero(reference_brains(reference.metadata))[:MANY]]
    mean = usual.mean(axis=0)
    of_reference, as_it_is, reversed_ = (
        np.array([correlation(image[inside], mean[inside]) for image in images])
        for images in (usual, brains.images, brains.images[:, ::-1])
    )
    z = _fisher(of_reference)
    centre = np.median(z)
    spread = max(1.4826 * np.median(np.abs(z - centre)), 0.01)

    is_down = np.abs(reversed_) > np.abs(as_it_is)
    lying = np.where(is_down, reversed_, as_it_is)
    is_kind = np.abs(lying) >= LEAST_FIT * np.median(of_reference)
    contrast = np.where(is_kind, np.where(lying < 0, "inverted", "as the reference"), "other")
    upright = np.where(is_down[:, None, None], brains.images[:, ::-1], brains.images)
    inverted = (contrast == "inverted")[:, None, None] & inside
    upright = np.where(inverted, upright[:, inside].max(axis=1)[:, None, None] - upright, upright)
    found = pd.DataFrame({"fit": as_it_is}, index=brains.metadata.index)
    found["fit_z"] = (_fisher(as_it_is) - centre) / spread
    found["contrast"] = contrast
    found["turned"] = _turned(upright, is_down & is_kind, usual, mean, atlas)
    found["plane"], own = _best_planes(upright, planes, atlas)
    found["gain"] = brains.metadata.get(GAIN, np.nan)
    low, high = np.percentile(of_reference, [1, 99])
    usually = f"reference brains {low:.2f}–{high:.2f}"
    found["unsuited"] = [_why_not(row, own, usually) for row in found.itertuples()]
    found["unlike"] = [
        f"correlation {row.fit:.2f}, {usually}" if row.fit_z < UNLIKE_Z and not row.unsuited else ""
        for row in found.itertuples()
    ]
    return found


def suitable_brains(brains: Cohort, checks: pd.DataFrame) -> Cohort:
    """The brains that `suitability` finds nothing against; a ValueError where there is none."""
    kept = (checks["unsuited"] == "").to_numpy()
    if not kept.any():
        raise ValueError(
            f"none of the {len(brains)} brains is a section such as the reference's; the first, "
            f"{checks.index[0]!r}: {checks['unsuited'].iloc[0]}"
        )
    return brains.select(kept)


def _turned(upright, is_down, usual, mean, atlas):
    """How each section lies, by its contrast put right; (n,)."""
    images = np.concatenate([usual, mean[None, :, ::-1], upright])
    is_usual = np.arange(len(images)) < len(usual)
    # Where the mean brain's mirror image is not called mirrored, none of this reference can be.
    is_mirrored = np.isin(section_orientations(images, atlas, is_usual), TURNED[:, 1])
    has_sides, is_mirrored = is_mirrored[len(usual)], is_mirrored[len(usual) + 1 :]
    names = TURNED if has_sides else np.where(TURNED == "none", UNTOLD, TURNED)
    return names[is_down.astype(int), is_mirrored.astype(int)].tolist()


def _best_planes(images, planes, atlas):
    """The plane whose template each image is most like, (n,), and the atlas's own; NaN without."""
    if not planes:
        return np.full(len(images), np.nan), np.nan
    numbers, inside = np.array([*planes]), atlas.brain_mask
    templates = [block_mean(t, whole_factor(t.shape, atlas.shape)) for t in planes.values()]
    fits = [
        [correlation(image[inside], template[inside]) for template in templates]
        for image in (atlas.template, *images)
    ]
    own, *best = numbers[np.argmax(fits, axis=1)]
    return np.array(best, dtype=float), float(own)


def _why_not(brain, own, usually):
    """A sentence on what keeps a brain from being judged, or nothing."""
    fit = f"correlation {brain.fit:.2f}, {usually}; not scored"
    if brain.contrast == "other":
        return f"another plane or modality: {fit}"
    found = []
    if brain.turned not in ("none", UNTOLD):
        found.append(f"{brain.turned}: correct the file, or set orientation")
    if brain.contrast == "inverted":
        found.append("contrast inverted, such as white matter bright as in light-sheet")
    if abs(brain.plane - own) > MOST_AWAY:  # never of NaN
        found.append(f"more like plane {brain.plane:g} than like the reference's {own:g}")
    return f"{'; '.join(found)}: {fit}" if found else ""


def _fisher(correlation):
    return np.arctanh(np.clip(correlation, -0.9999, 0.9999))
