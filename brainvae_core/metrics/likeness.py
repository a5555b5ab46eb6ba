"""What a difference between groups looks like: anatomy, brightness, registration or damage.

Every section is explained, to first order, by four kinds of change of a mean image, and each kind's
measures are tested. Which kind a difference is follows from which of them it stands out in most.
"""

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.stats import rankdata

from brainvae_core.metrics.checks import (
    check_one_shape,
    check_positive,
    checked_images,
    checked_mean,
)
from brainvae_core.metrics.designs import Design
from brainvae_core.metrics.groups import (
    basis_of,
    measures_of,
    orders_of,
    residuals_of,
    statistics_of,
)
from brainvae_core.metrics.intervals import from_resamples

KINDS = ("anatomy", "brightness", "registration", "damage")
NO_DIFFERENCE, CANNOT_TELL = "no difference", "cannot tell"
LEVEL = 0.05  # of a difference of any kind
CLEAR = 1.15  # the leading kind's score over the next one's; below it the kind is not told
DRAWS = 200  # resamples of an interval

SMOOTH_UM = 60  # σ: borders become wide enough for their movement to be linear
OUTLINE_MM = 0.3  # from the brain's surface: where registration is read
LATTICE_MM = 0.8  # between the points that tissue moves about
DEPTH_MM = 0.25  # of a region's half: what is thinner, as ventricles, changes brightness by size
# What is expected of a brain; a measure that images say little of is held near zero.
GAIN, MOVE_UM, NOISE = 0.1, 50, 0.04  # log gain of a region, movement, grey of a pixel of 0.1 mm
OUTLYING = 4  # robust standard deviations: damage, and left out of the other kinds
PASSES = (2, 3)  # of fitting a brain without what is outlying; it is registered after the first two
SPREAD_FLOOR = 0.005  # grey values
LIGHT = ("overall", "ventral over dorsal", "right over left")
MOVES = (
    "down",
    "height",
    "turned down on the right",
    "to the right",
    "turned right below",
    "width",
)


class Likeness(NamedTuple):
    """Of which kind a difference looks: one of `KINDS`, "cannot tell" or "no difference".

    ``table`` has a row a kind, the likeliest first: ``kind``; ``score``, its largest test statistic
    over what 95 % of permutations stay below; ``share`` of the squared scores with ``low`` and
    ``high``; ``p``, corrected for the kind's measures, and ``p_family``, for all kinds together;
    ``measure``, where the kind differs most, and by how much (``value``, of the first tested
    column).
    """

    kind: str
    table: pd.DataFrame


def difference_kind(
    changes: pd.DataFrame,
    design: Design,
    *,
    flagged: np.ndarray | None = None,
    n_permutations: int = 999,
    seed: int = 0,
) -> Likeness:
    """Which kind of difference between brains the term of a design goes with.

    Freedman–Lane permutations of every measure together, maximum ``|t|`` (of several tested columns
    √F) within a kind. "no difference" where no kind has ``p_family`` ≤ 0.05; "cannot tell" where
    the leading score is less than 1.15 times the next, or that kind itself not beyond chance. It
    looks so: two kinds at once are told as the stronger or not at all, and a change that the first
    order misses can pass as another kind.

    Parameters
    ----------
    changes, design : DataFrame, (n, measures), and Design
        As `section_changes` answers, and as for `group_differences`.
    flagged : ndarray of bool, shape (n,), optional
        Brains found to be damaged by another rule: a measure of damage more.
    n_permutations, seed : int
    """
    kinds = changes.columns.get_level_values(0).to_numpy()
    if {*kinds} != {*KINDS}:
        raise ValueError(f"the kinds of measures are {sorted({*kinds})}; give {', '.join(KINDS)}")
    matrix, tested = design.matrix, design.tested
    if n_permutations < 19:
        raise ValueError(f"n_permutations={n_permutations}; 1 in 20 takes at least 19")
    # Rows of `section_changes` have numbers, no names, and those that are left keep theirs.
    columns, values = measures_of(changes.reset_index(drop=True), design)
    measures = [measure for _, measure in columns]
    if flagged is not None:
        check_one_shape(flagged=flagged, brains=matrix[:, 0])
        values = np.column_stack([values, np.asarray(flagged, dtype=bool)])
        kinds, measures = np.append(kinds, "damage"), [*measures, "flagged"]
    if not np.ptp(values, axis=0).any():
        raise ValueError("no measure differs between the brains: they are copies of one section")
    basis, n_tested = basis_of(matrix, tested)[0], int(tested.sum())
    orders = orders_of(matrix, n_permutations, seed)
    found = _statistics(values, basis, n_tested, orders)

    def largest_of(statistics):
        return np.stack([statistics[:, kinds == kind].max(axis=1) for kind in KINDS], axis=1)

    largest = largest_of(found)
    p = (1 + len(largest) - rankdata(largest, "min", axis=0)) / len(largest)
    p_family = (p.min(axis=1)[:, None] <= p[0]).mean(axis=0)
    usual = np.quantile(largest[1:], 0.95, axis=0).clip(min=1e-9)
    score = largest[0] / usual

    slopes = np.linalg.lstsq(matrix, values, rcond=None)[0]
    fitted = matrix @ slopes
    freedom = len(values) - matrix.shape[1]
    rest = (values - fitted) * np.sqrt(len(values) / freedom)
    drawn = np.random.default_rng(seed).integers(len(rest), size=(DRAWS, len(rest)))
    again = np.vstack(
        [_statistics(fitted + rest[rows], basis, n_tested, orders[:1]) for rows in drawn]
    )
    again = largest_of(again) / usual
    most = [np.where(kinds == kind, found[0], -1).argmax() for kind in KINDS]
    shares, drawn = (
        np.square(s) / np.square(s).sum(axis=-1, keepdims=True) for s in (score, again)
    )
    table = pd.DataFrame({"kind": KINDS, "score": score})
    for i, (share, draws) in enumerate(zip(shares, drawn.T, strict=True)):
        ends = from_resamples([share], [draws], freedom + 1, bounds=(0, 1))
        table.loc[i, ["share", "low", "high"]] = ends.value, ends.low, ends.high
    table = table.assign(p=p[0], p_family=p_family, measure=[measures[i] for i in most])
    table["value"] = slopes[tested][0, most]
    table = table.sort_values("score", ascending=False, ignore_index=True)
    if table["p_family"].min() > LEVEL:
        return Likeness(NO_DIFFERENCE, table)
    leads = table["p_family"][0] <= LEVEL and table["score"][0] >= CLEAR * table["score"][1]
    return Likeness(table["kind"][0] if leads else CANNOT_TELL, table)


def section_changes(
    images: np.ndarray,
    mean_image: np.ndarray,
    brain_mask: np.ndarray,
    regions: Mapping[str, np.ndarray],
    pixel_um: float,
    plane_change: np.ndarray | None = None,
) -> pd.DataFrame:
    """How each section differs from what all have in common, in measures of four kinds.

    One linear fit a brain of the mean image's gradient and brightness, in this order: registration
    moves, stretches and turns the section as its outline says (µm at the brain's edges; a plane's
    shift); brightness is a log gain, overall, by gradients and of each region's halves; anatomy
    moves tissue about points of a lattice (µm), which leaves the outline and the plane as they are.
    Pixels far from the fit are left out of it; how many and how far is damage, as ranks. Answers
    (n, measures), with columns ``kind`` and ``measure``.

    Parameters
    ----------
    images, mean_image : ndarray, shape (n, height, width) and (height, width)
        Of the brains to compare; of the reference.
    brain_mask, regions, pixel_um : ndarray of bool, mapping of str to such, each (height, width)
        The brain; regions that do not overlap, by acronym.
    plane_change : ndarray, shape (height, width), optional
        What a section one step on along the axis adds to the mean image, such as the template's
        next plane less this one. Without it a section from another plane looks like anatomy.
    """
    images, mean = checked_images(images, "images"), checked_mean(mean_image, images)
    brain_mask = np.asarray(brain_mask, dtype=bool)
    masks = {name: np.asarray(mask, dtype=bool) for name, mask in regions.items()}
    check_positive(pixel_um=pixel_um)
    check_one_shape(mean_image=mean, brain_mask=brain_mask, **masks)
    if not brain_mask.any():
        raise ValueError("the brain's mask is empty; give the atlas's labelled pixels")
    blur, mm = SMOOTH_UM / pixel_um, pixel_um / 1000
    depth = distance_transform_edt(brain_mask) + distance_transform_edt(~brain_mask)
    seen = brain_mask | (depth * mm <= OUTLINE_MM)
    outline = (depth * mm <= OUTLINE_MM)[seen]

    mean = gaussian_filter(mean, blur)
    names, flat, light, moves, gains, about = _atoms(mean, brain_mask, masks, pixel_um)
    light, moves, gains, about = (
        np.stack([atom[seen] for atom in atoms], axis=1).astype(np.float32)
        for atoms in (light, moves, gains, about)
    )
    plane = np.empty((seen.sum(), 0), dtype=np.float32)
    if plane_change is not None:
        check_one_shape(mean_image=mean, plane_change=plane_change)
        plane = gaussian_filter(np.asarray(plane_change, dtype=np.float32), blur)[seen][:, None]
    of_outline = np.linalg.pinv(np.hstack([moves, light])[outline])[: moves.shape[1]]
    near = np.hstack([gains * GAIN, about * MOVE_UM])
    near -= light @ (np.linalg.pinv(light) @ near)
    rest = np.hstack([light, plane, near]).astype(np.float64)
    penalty = np.full(rest.shape[1], (NOISE * 100 / pixel_um) ** 2)
    penalty[: light.shape[1] + plane.shape[1]] = 0
    of_rest = np.linalg.solve(rest.T @ rest + np.diag(penalty), rest.T).astype(np.float32)
    rest = rest.astype(np.float32)

    sections = np.stack([gaussian_filter(image.astype(np.float32), blur) for image in images])
    inside, registered = brain_mask[seen], 0
    for passes in PASSES:
        given = sections[:, seen] - np.median(sections[:, seen], axis=0)
        kept = given
        for _ in range(passes):
            moved = kept[:, outline] @ of_outline.T
            found = (kept - moved @ moves.T) @ of_rest.T
            fit = moved @ moves.T + found @ rest.T
            spread = 1.4826 * np.median(np.abs(given - fit), axis=0).clip(min=SPREAD_FLOOR)
            # Noise grows with brightness, and a brighter brain is not a damaged one.
            lit = 1 + fit[:, inside].mean(axis=1) / mean[seen][inside].mean()
            far = np.abs(given - fit) / (spread * lit[:, None])
            kept = np.where(far > OUTLYING, fit, given)
        registered = registered + moved
        sections = _moved_back(sections, moved.reshape(len(moved), 2, -1) / pixel_um, flat)
    damage = [(far > OUTLYING).mean(axis=1), np.sqrt(np.square(far.clip(max=10)).mean(axis=1))]
    ends = np.cumsum([light.shape[1], plane.shape[1], gains.shape[1]])
    light, plane, gains, about = np.split(found, ends, axis=1)
    found = {
        "anatomy": about * MOVE_UM,
        "brightness": np.hstack([light, gains * GAIN]),
        "registration": np.hstack([registered, plane]),
        "damage": rankdata(damage, axis=1).T,
    }
    names["registration"] += ["plane"] * (plane_change is not None)
    names["damage"] = ["share of pixels that do not fit", "distance from the fit"]
    columns = [(kind, name) for kind in KINDS for name in names[kind]]
    return pd.DataFrame(
        np.hstack([found[kind] for kind in KINDS]),
        columns=pd.MultiIndex.from_tuples(columns, names=["kind", "measure"]),
    )


def _statistics(values, basis, n_tested, orders):
    """√F of the tested columns (|t| of one) for each order and measure; 0 of one that stays."""
    # No HC2 here: of many measures of few brains the largest t would be one whose error came out
    # small. Of 40 planted studies of 24 + 8 brains 5 were told rightly with it and 4 wrongly, 7 and
    # 1 without it; of 40 of 12 + 12 the same.
    residuals, _, varies = residuals_of(basis, n_tested, values)
    found = np.zeros((len(orders), values.shape[1]))
    found[:, varies] = np.sqrt(statistics_of(basis, n_tested, orders)(residuals))
    return found


def _atoms(mean, brain_mask, masks, pixel_um):
    """Names by kind, and what a unit of each measure changes, lists of (height, width)."""
    down, across = np.gradient(mean, pixel_um)
    spans = [np.flatnonzero(brain_mask.any(axis=axis)) for axis in (1, 0)]
    middles, halves = ([(s[-1] + sign * s[0]) / 2 for s in spans] for sign in (1, -1))
    y, x = (np.arange(size) - middle for size, middle in zip(mean.shape, middles, strict=True))
    flat = [np.ones_like(mean), *np.meshgrid(y / halves[0], x / halves[1], indexing="ij")]
    light = [mean * shape for shape in flat]
    moves = [-gradient * shape for gradient in (down, across) for shape in flat]
    names = {"brightness": [*LIGHT], "registration": [*MOVES], "anatomy": []}
    mm, halves_of = pixel_um / 1000, {}
    for name, mask in masks.items():
        for side, half in (("left", flat[2] < 0), ("right", flat[2] >= 0)):
            if distance_transform_edt(mask & half).max() * mm >= DEPTH_MM:
                halves_of[f"{name} {side}"] = mask & half
    if not halves_of:
        raise ValueError(f"no region is {2 * DEPTH_MM:g} mm thick; give larger ones")
    names["brightness"] += halves_of
    # Each pixel counts to the nearest, so that all together are the brightness overall.
    distances = np.stack([distance_transform_edt(~half) for half in halves_of.values()])
    nearest, about = distances.argmin(axis=0), []
    gains = [
        mean * gaussian_filter((nearest == i) * 1.0, 50 / pixel_um) for i in range(len(halves_of))
    ]
    reaches = [int(np.ceil(half * mm / LATTICE_MM)) + 1 for half in halves]
    for a, b in product(*(range(-reach, reach + 1) for reach in reaches)):
        near = np.outer(_spline(y * mm / LATTICE_MM - a), _spline(x * mm / LATTICE_MM - b))
        if (near * brain_mask).sum() < 0.3 * near.sum():
            continue
        within = {name: (near * mask).sum() for name, mask in masks.items()}
        here = max(within, key=within.get) if within and max(within.values()) > 0 else "tissue"
        where = f"{abs(b) * LATTICE_MM:.1f} mm {'left' if b < 0 else 'right'}"
        where += f", {abs(a) * LATTICE_MM:.1f} mm {'up' if a < 0 else 'down'}"
        for gradient, way in ((down, "down"), (across, "to the right")):
            about.append(-gradient * near)
            names["anatomy"].append(f"{here} moves {way} ({where})")
    return names, flat, light, moves, gains, about


def _moved_back(sections, moved, flat):
    """Sections with their tissue where it was before it moved, down and across in pixels."""
    pixels, flat = np.indices(sections.shape[1:], dtype=np.float32), np.stack(flat)
    return np.stack(
        [
            map_coordinates(section, pixels + np.tensordot(by, flat, 1), mode="nearest")
            for section, by in zip(sections, moved, strict=True)
        ]
    )


def _spline(distance):
    """Cubic B-spline: a point's weight at a distance in points."""
    d = np.abs(distance)
    return np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.clip(2 - d, 0, None) ** 3 / 6)
