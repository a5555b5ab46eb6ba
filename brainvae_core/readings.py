"""What latents say of a fit, as tables: each function takes what all fits share, and reads one.

Draws are kept beside the numbers: :func:`reading` makes an interval of them, over brains, regions
and fits.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainvae_core.cohorts import artefact_free
from brainvae_core.fields import (
    agreement_of,
    asymmetry,
    both_directions,
    has_spot,
    outlier_latents,
    projective_field,
    scored_field,
    share_gap,
    share_localised,
    share_moved,
    share_unmoved,
    tail_asymmetry,
    tail_ratio,
    traversal,
    weight_range,
)
from brainvae_core.metrics import Estimate, active_latents, from_resamples
from brainvae_core.prepare import prepare_cohort

DRAWS = 200
STARTS = 16  # brains from whose codes latents are moved
N_C, FEW_C = 57, 29  # values of c around the mean code, and from each of these brains
NEAR = 2.0  # prior standard deviations: nearly all brains are within


def clean_test(p, cohort) -> np.ndarray:
    """Unsuspected test brains, (n, height, width), by chapter 1's rule at full size."""
    whole = prepare_cohort(p)
    return cohort.images[artefact_free(whole) & (whole.metadata["split"] == "test").to_numpy()]


def regions_read(p, atlas) -> dict[str, tuple[str, ...]]:
    """The acronyms of the profile's regions and of all, by what they are called in tables."""
    named, every = tuple(p.fields.rois), tuple(atlas.regions(p.fields.region_share))
    return {f"{len(named)} named regions": named, f"all {len(every)} regions": every}


def fields(p, cohort):
    """Both fields of every latent: sizes, one a region and latent, at least 0.

    Columns ``over`` (which regions), ``region``, ``latent`` and ``score``: "divergence" in nats;
    "shift", the size of ``effect_size`` in standard deviations; "profile", the variance that the
    latent gives the region, mean over its pixels. The regions' ranges of brightness are those of
    all unsuspected test brains.
    """
    read_both = _both(p, cohort)

    def of_run(run):
        parts = []
        for over, acronyms, both in read_both(run.model):
            field, latents = both.receptive, _names(len(both.profile))
            found = {"divergence": field.divergence, "shift": np.abs(field.effect_size)}
            for score, values in (found | {"profile": both.profile.T}).items():
                wide = pd.DataFrame(values, acronyms, latents).rename_axis("region").reset_index()
                parts.append(wide.melt("region", var_name="latent").assign(score=score, over=over))
        return pd.concat(parts, ignore_index=True)

    return of_run


def statements(p, cohort):
    """What is said of those fields, as numbers of a fit.

    Columns ``over`` (which regions), ``score``, ``region`` (of some) and ``kind``: "value", the
    number; "draw", of resampled brains, and regions where fields agree; "permuted" and "rotated",
    of chance. Without two active latents a fit has their number alone.
    """
    brains, read_both = clean_test(p, cohort), _both(p, cohort)

    def of_run(run):
        active = active_latents(run.model.encode(brains))
        parts = [_draws("active latents", "value", [active.sum()])]
        for i, (over, acronyms, both) in enumerate(read_both(run.model)):
            if active.sum() > 1:
                named = () if i else acronyms
                parts.append(_statements(both, active, acronyms, named).assign(over=over))
        return pd.concat(parts, ignore_index=True)

    return of_run


def _both(p, cohort):
    """Of a model both directions over each set of regions, with its name and acronyms."""
    brains = clean_test(p, cohort)
    few, c = brains[: p.fields.n_read], np.linspace(-p.fields.c_max, p.fields.c_max, N_C)
    sets = [
        (over, acronyms, cohort.atlas.roi_masks(acronyms))
        for over, acronyms in regions_read(p, cohort.atlas).items()
    ]
    ranges = [weight_range(brains, masks) for *_, masks in sets]

    def read_both(model):
        for (over, acronyms, masks), weights in zip(sets, ranges, strict=True):
            yield over, acronyms, both_directions(model, few, masks, c, weights)

    return read_both


def tails(p, cohort):
    """What moving a latent does from the codes of some brains, a brain and a latent a row.

    Scores are "tail ratio", "asymmetry", "star", "tail asymmetry" (by ``region``), and whether a
    spot brighter than any unsuspected test brain appears "at the ends" of c, or "when moved by 2".
    """
    brains = clean_test(p, cohort)
    brightest, ends = brains.max(axis=0), np.array([-p.fields.c_max, p.fields.c_max])
    c = np.linspace(*ends, FEW_C)
    masks = cohort.atlas.roi_masks(p.fields.rois)

    def of_run(run):
        active = active_latents(run.model.encode(brains))
        latents = _names(len(active))
        parts = []
        for brain, z in enumerate(run.model.encode(brains[:STARTS])):
            field = projective_field(run.model, z, c)
            scores = {"tail ratio": tail_ratio(field), "asymmetry": asymmetry(field)}
            scores["star"] = outlier_latents(field, active) if active.sum() > 2 else 0 * active
            for where, at in (("at the ends", ends), ("when moved by 2", NEAR * np.sign(ends))):
                seen = has_spot(traversal(run.model, z, at), brightest, cohort.atlas.brain_mask)
                scores[f"spot {where}"] = seen.any(axis=1)
            rows = [{"score": k, "latent": latents, "value": v} for k, v in scores.items()]
            sides = zip(p.fields.rois, tail_asymmetry(field.variance, masks).T, strict=True)
            of_region = {"score": "tail asymmetry", "latent": latents}
            rows += [of_region | {"value": v, "region": r} for r, v in sides]
            parts.append(pd.concat(map(pd.DataFrame, rows)).assign(brain=brain))
        return pd.concat(parts, ignore_index=True).astype({"value": float})

    return of_run


def codes(p, cohort):
    """Codes of every test brain, a brain and a latent a row; ``clean`` is 1 of unsuspected ones."""
    whole = prepare_cohort(p)
    test = (whole.metadata["split"] == "test").to_numpy()
    images, clean = cohort.images[test], artefact_free(whole)[test].astype(int)

    def of_run(run):
        z = run.model.encode(images)
        n, latents = len(z), _names(z.shape[1])
        return pd.DataFrame(
            {
                "brain": np.repeat(np.arange(n), len(latents)),
                "clean": np.repeat(clean, len(latents)),
                "latent": np.tile(latents, n),
                "value": z.ravel().astype(float),
            }
        )

    return of_run


def reading(
    rows: pd.DataFrame, n_brains: int, n_regions: int | None = None, less=None, **options
) -> Estimate:
    """One score of `statements` of one model with its interval, or how much it exceeds another's.

    Parameters
    ----------
    rows, less : DataFrame
        Of one score, one model and one set of regions; fits are told by ``seed``.
    n_brains, n_regions : int
        That were resampled.
    **options
        ``bounds``, as for `from_resamples`.
    """
    less = None if less is None else by_fit(less)
    return include_value(from_resamples(*by_fit(rows), n_brains, less, n_regions, **options))


def include_value(found: Estimate) -> Estimate:
    """With an interval that holds the number itself.

    Of a share that few draws change, their mean lies a little beside nearly all of them, and so
    does the interval of `from_resamples`.
    """
    return found._replace(low=min(found.low, found.value), high=max(found.high, found.value))


def matrix(rows: pd.DataFrame, acronyms) -> np.ndarray:
    """One score of `fields` of one fit, (n_rois, latent_dim), its regions in this order."""
    return _by_latent(rows, "region").loc[list(acronyms)].to_numpy()


def code_matrix(rows: pd.DataFrame) -> np.ndarray:
    """Rows of `codes` of one fit as (n_brains, latent_dim)."""
    return _by_latent(rows, "brain").to_numpy()


def _by_latent(rows, index) -> pd.DataFrame:
    wide = rows.pivot(index=index, columns="latent", values="value")
    return wide[sorted(wide, key=lambda name: int(name[1:]))]


def by_fit(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """One score of `statements`, of one model: numbers (n_fits,) and their draws (n_fits, n)."""
    of_kind = {
        kind: [of["value"].to_numpy() for _, of in rows[rows["kind"] == kind].groupby("seed")]
        for kind in ("value", "draw")
    }
    values, draws = of_kind["value"], of_kind["draw"]
    if not values or {len(v) for v in values} != {1} or len({len(d) for d in draws}) != 1:
        raise ValueError(
            f"{len(rows)} rows are not one score of one model with its draws; choose one model, "
            "one set of regions, one score and, where it has them, one region"
        )
    return np.concatenate(values), np.stack(draws)


def _statements(both, active, acronyms, named) -> pd.DataFrame:
    """Every number and its draws; of single regions only those that are ``named``."""
    field = both.receptive
    shifts, drawn = field.effect_size, field.bootstrapped(DRAWS, 0, "effect_size")
    moved = share_moved(shifts, active), share_moved(drawn, active)
    gap = [
        np.abs(share_gap(d, both.profile)[..., active]).max(axis=-1)
        for d in (field.divergence, field.bootstrapped(DRAWS, 0))
    ]
    agreed, apart = agreement_of(both, active, DRAWS), scored_field(field, active, DRAWS)
    turned = np.stack([field.rotated(i, active).effect_size for i in range(len(apart.rotated))])
    found = [
        *_rows("share not moved", share_unmoved(shifts, active), share_unmoved(drawn, active)),
        *_rows("share localised", share_localised(shifts, active), share_localised(drawn, active)),
        *_rows("agreement", agreed.own, agreed.own_resamples),
        *_rows("agreement beyond", agreed.beyond, agreed.beyond_resamples),
        *_rows("uncorrelatedness", apart.value, apart.resamples),
        _draws("uncorrelatedness", "permuted", apart.permuted),
        _draws("uncorrelatedness", "rotated", apart.rotated),
        _draws("share localised", "rotated", share_localised(turned)),
    ]
    for acronym in named:
        i = acronyms.index(acronym)
        for score, (whole, draws) in {"share moved": moved, "largest gap": gap}.items():
            found += [r.assign(region=acronym) for r in _rows(score, whole[i], draws[:, i])]
    return pd.concat(found)


def _rows(score, value, draws) -> list[pd.DataFrame]:
    return [_draws(score, "value", np.atleast_1d(value)), _draws(score, "draw", draws)]


def _draws(score, kind, values) -> pd.DataFrame:
    return pd.DataFrame({"score": score, "kind": kind, "value": np.asarray(values, dtype=float)})


def _names(n: int) -> list[str]:
    return [f"F{k + 1}" for k in range(n)]
