"""One brain of a lab: is it unusual, is it damaged? By norms, a judge, and what labs use today.

    python benchmarks/one_brain.py [--small] [--device auto]

Models are fitted as in `groups.py`; what they are asked about is planted in further brains.
"""

from __future__ import annotations

import numpy as np
from groups import SHAPE, STUDIES, reference_of
from measure import heading, line, options, part, share
from scipy.ndimage import gaussian_filter
from scipy.stats import norm
from sklearn.ensemble import IsolationForest

from brainvae_core import lab
from brainvae_core.cohorts import ARTEFACTS, clean_part, displaced, graded_artefacts, simulate
from brainvae_core.cohorts.artefacts import artefact_scores, plant, reference_brains
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.fields import region_brightness
from brainvae_core.metrics import ArtefactJudge, Norm, cleaned, estimate, from_resamples
from brainvae_core.models import MeanImage, fit
from brainvae_core.models.devices import pick_device
from brainvae_core.prepare import prepare_cohort
from brainvae_core.settings import read_profile
from brainvae_core.study import compared_configs

MOVED = ("ventricle_size", "cortical_thickness", "ap_position")
BRAINS = {"cohort": 1024, "reference": 500, "held out": 400, "changed": 80, "judged": 300}


def measures(images, atlas, models) -> dict[str, np.ndarray]:
    """What norms are made of, brain by brain; tiles are of 0.4 mm."""
    masks, side = atlas.roi_masks(atlas.regions()), round(400 / atlas.pixel_um)
    tiles = block_mean(atlas.brain_mask.astype(np.float32), side) > 0.5
    found = {"regions": region_brightness(images, masks).T}
    found["β-VAE latents"] = models["β-VAE"].encode(images)
    for name, model in models.items():
        rest = images - model.reconstruct(images)
        found[f"{name} tile errors"] = block_mean(rest, side)[:, tiles]
    return found


def covariates(of) -> np.ndarray:
    """Sex, age and strain as numbers."""
    strains = [of["strain"] == strain for strain in ("FVB.CD1", "B6.129")]
    return np.column_stack([of["sex"] == "M", of["age_days"], *strains])


def brighter(images, atlas, sd: float) -> np.ndarray:
    """Brains whose hippocampus is brighter by planted standard deviations of 10 %."""
    soft = gaussian_filter(atlas.roi_masks(["HPF"])[0].astype(np.float32), 50 / atlas.pixel_um)
    return np.clip(images * np.exp(0.1 * sd * soft), 0, 1).astype(np.float32)


def changes(images, atlas) -> dict[str, np.ndarray]:
    """Brains with one thing changed in each."""
    rng, um, n = np.random.default_rng(5), atlas.pixel_um, len(images)
    tissue = np.argwhere(atlas.brain_mask & (atlas.template > 0.3))
    sites = tissue[rng.integers(len(tissue), size=n)]
    away = [np.hypot(*(np.indices(atlas.shape) - site[:, None, None])) for site in sites]
    near = rng.choice([-1, 1], (n, 1, 1)) * np.exp(-np.square(np.stack(away) * um / 400))
    gain = np.exp(near).astype(np.float32)
    made = {"nothing": images}
    for most in (0.2, 0.4):
        made[f"brightness within 0.4 mm, ±{most:.0%}"] = np.clip(images * gain**most, 0, 1)
    for sd in (1, 2, 3):
        made[f"HPF brighter, {sd} SD"] = brighter(images, atlas, sd)
        made[f"ventricle larger, {sd} SD"] = displaced(images, atlas, "ventricle_size", sd)
    for mm in (0.15, 0.3):
        holes, _ = plant(images, ["breakage"] * n, [mm] * n, pixel_um=um, seed=0, sites=sites)
        made[f"missing tissue, {mm} mm"] = holes
    return made


def norms(n, simulator, atlas, models) -> None:
    """Lines of how well norms are calibrated, and what is found by them and by other scores."""
    drawn = STUDIES[simulator]
    usual = drawn(n["reference"], atlas, artefact_share=0, seed=101)
    own = drawn(n["held out"], atlas, artefact_share=0, seed=102)
    of_usual, of_own = (measures(c.images, atlas, models) for c in (usual, own))
    known, mine = (covariates(c.metadata) for c in (usual, own))
    normal = {name: Norm(values, known) for name, values in of_usual.items()}
    for name, one in normal.items():
        z = np.abs(one.z(of_own[name], mine))
        told = [f"{p:.0%}: {estimate((z > norm.isf(p / 2)).mean(axis=1))}" for p in (0.05, 0.01)]
        both = {"whole": one.whole(of_own[name], mine), "largest": one.largest(of_own[name], mine)}
        told += [f"{way}, 5%: {found(high > norm.isf(0.05))}" for way, high in both.items()]
        line(f"calibration, {name}", "; ".join(told), f"{len(usual)} + {len(own)}")
    regions = of_usual["regions"]
    forest = IsolationForest(n_estimators=200, random_state=0).fit(regions)

    def scores(seen, known):
        asked = [("regions", "whole"), ("β-VAE latents", "whole")]
        asked += [(f"{name} tile errors", "largest") for name in models]
        said = {f"{a}, {b}": getattr(normal[a], b)(seen[a], known) for a, b in asked}
        far = np.abs(seen["regions"] - regions.mean(axis=0)) / regions.std(axis=0)
        said["region means, largest plain z"] = far.max(axis=1)
        return said | {"isolation forest": -forest.score_samples(seen["regions"])}

    before, few = scores(of_own, mine), n["changed"]
    for what, images in changes(own.images[:few], atlas).items():
        after = scores(measures(images, atlas, models), mine[:few])
        told = [f"{name} {_area(before[name], x)}" for name, x in after.items()]
        line(f"ROC area, {what}", "; ".join(told), f"{few} / {len(own)}")


def judges(n, simulator, cohort, models) -> None:
    """Lines of the judge on each model and of the rule, and of what cleaning leaves."""
    atlas, train = cohort.atlas, cohort.split("train")
    models = models | {"mean image": MeanImage.fit(train.images)}
    ordinary = clean_part(cohort, "validation").images
    some, planted = ordinary[-20:], graded_artefacts(cohort, (0.3, 0.6, 0.9), 12, "validation")
    unusual = [displaced(some, atlas, name, sd) for name in MOVED for sd in (-2.5, 2.5)]
    unusual += [brighter(some, atlas, sd) for sd in (-2.5, 2.5)]
    shown = {"": ordinary, ", shown unusual anatomy": np.concatenate([ordinary, *unusual])}
    brains = STUDIES[simulator](n["judged"], atlas, artefact_share=0.5, seed=78)
    kind = brains.metadata["artefact"].to_numpy(dtype=str)
    bad = kind != "none"
    larger = displaced(brains.images[~bad][:30], atlas, "ventricle_size", 3)
    asked = np.concatenate([brains.images, larger])

    of = np.append(kind, ["ventricle +3 SD"] * len(larger))
    masks = {}
    for name, model in models.items():
        for how, taught in shown.items():
            said = ArtefactJudge(model, taught, planted, share=0.5)(asked)
            masks[name + how] = said.masks[: len(kind)]
            squares = np.square(said.probability[: len(kind)] - bad)
            what, brier = f"damaged by the judge on {name}{how}", f"Brier {estimate(squares)}"
            called(what, said.probability >= 0.5, of, brier)
    is_usual = np.append(reference_brains(train.metadata), np.zeros(len(asked), dtype=bool))
    ruled = artefact_scores(np.concatenate([train.images, asked]), is_usual, atlas)
    called("damaged by the rule, score ≥ 4", ruled[len(train) :].max(axis=1) >= 4, of)
    images, truth, there = brains.images[bad], brains.clean[bad], brains.artefact_masks[bad]
    fills = {"as it was": images}
    fills["β-VAE, its judge's mask"] = cleaned(models["β-VAE"], images, masks["β-VAE"][bad])
    fills |= {f"{name}, true mask": cleaned(model, images, there) for name, model in models.items()}
    errors(fills, truth, there, kind[bad])


def errors(fills, truth, there, kind) -> None:
    """Lines of what is wrong where artefacts truly are."""
    for name, filled in fills.items():
        squares = (np.square(filled - truth) * there).sum(axis=(1, 2)) / there.sum(axis=(1, 2))
        told = [f"{k} {estimate(1000 * np.sqrt(squares[kind == k]))}" for k in ARTEFACTS]
        line(f"RMS error × 1000 in the true mask, {name}", "; ".join(told), f"{len(kind)}")


def found(hits) -> str:
    """How many are found, and their share."""
    return f"{hits.sum()}/{len(hits)}, {share(hits.sum(), len(hits))}"


def called(what, hits, of, *more) -> None:
    """A line of how many of each kind are called something."""
    told = [f"{kind} {found(hits[of == kind])}" for kind in ("none", *ARTEFACTS, of[-1])]
    line(f"called {what}", "; ".join([*told, *more]), f"{len(of)}")


def in_a_report(n: int) -> None:
    """Lines of the judge and the cleaning as a report has them, 15 in 100 expected damaged."""
    p = read_profile("full", enter=True)
    reference, configs = prepare_cohort(p), compared_configs(p)
    pca, vae = (fit(reference, configs[name], p.places.runs).model for name in ("PCA", "β-VAE"))
    brains = simulate(n, reference.atlas, artefact_share=0.5, seed=78)
    kind = brains.metadata["artefact"].to_numpy(dtype=str)
    larger = displaced(brains.images[kind == "none"][:30], brains.atlas, "ventricle_size", 3)
    judge, of = lab.artefact_judge(p, reference, pca), np.append(kind, ["ventricle +3 SD"] * 30)
    said = judge(np.concatenate([brains.images, larger]))
    called("damaged by a report's judge", said.probability >= 0.5, of)
    told = [f"{k} {found((said.kind == of)[of == k])}" for k in ARTEFACTS]
    line("called what they are", "; ".join(told), f"{(kind != 'none').sum()}")
    bad = (kind != "none") & (said.kind[: len(kind)] != "none")
    before = brains.images[bad]
    after = cleaned(vae, before, said.masks[: len(kind)][bad])
    truth, there = brains.clean[bad], brains.artefact_masks[bad]
    errors({"as it was": before, "cleaned": after}, truth, there, kind[bad])


def _area(clean, changed):
    above, rng = np.heaviside(changed[:, None] - clean, 0.5), np.random.default_rng(0)
    a, b = (rng.multinomial(n, np.full(n, 1 / n), 1000) / n for n in above.shape)
    drawn = ((a @ above) * b).sum(axis=1)
    return str(from_resamples([above.mean()], [drawn], len(changed), bounds=(0, 1)))


def main():
    given = options(__doc__, "few brains and a model of a few steps, in a minute").parse_args()
    few, steps = (8, 40) if given.small else (1, 1500)
    n = {name: count // few for name, count in BRAINS.items()}
    heading("One brain of a lab", pick_device(given.device), f"At {SHAPE}, brains: {n}.")
    for simulator in STUDIES:
        cohort, models = reference_of(simulator, n["cohort"], steps, given.device)
        with part(f"{simulator}: norms"):
            norms(n, simulator, cohort.atlas, models)
        with part(f"{simulator}: judge and cleaning"):
            judges(n, simulator, cohort, models)
    if not given.small:
        with part("a report's own judge and cleaning, profile full"):
            in_a_report(n["judged"])


if __name__ == "__main__":
    main()
