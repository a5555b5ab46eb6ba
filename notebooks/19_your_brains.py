# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 19 · Your own brains
#
# **Which of these brains can be used, which are unusual, and in what do two groups differ?** The chapter takes a folder of
# registered brains and a table of them. No model is fitted to them: a large reference cohort says what is usual, and a model of that cohort
# finds artefacts. Where no folder is
# given, 12 wild types and 12 knockouts are simulated; what was planted in them is told at the end.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file: the reference cohort and its model
settings = ""  # any others, as text: book/running.md
brains = None  # a folder of registered brains, or one brain
group = None  # the column of metadata.csv that tells the groups; "" where there are none
covariates = None  # other columns, such as ["sex", "age_days"]

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals(), about="lab")

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.cohorts import clean_part, displaced, graded_artefacts, suitability, suited_part
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.fields import region_brightness
from brainvae_core.metrics import (
    ArtefactJudge,
    Norm,
    brains_needed,
    cleaned,
    design_of,
    difference_kind,
    group_differences,
    section_changes,
    smallest_difference,
    usable_brains,
)
from brainvae_core.models import fit
from brainvae_core.prepare import lab_brains, lab_truth, plane_change, planes_beside, prepare_cohort
from brainvae_core.record import Record
from brainvae_core.study import compared_configs
from IPython.display import display

# %%
reference = prepare_cohort(p)
pca, model = (
    fit(reference, compared_configs(p)[name], p.places.runs, p.places.device).model
    for name in ("PCA", "β-VAE")
)
came = lab_brains(p, reference)
out = Path(p.places.reports) / came.name
out.mkdir(parents=True, exist_ok=True)
print(f"reference: {reference}", came, sep="\n")

# %% [markdown]
# ## What is left out
#
# A brain is left out of everything below where it cannot be read, or where it is no section such as the model knows: upside down, mirrored,
# of another contrast, plane or modality. Another unit of brightness is no reason. A brain that is unlike the reference's is used, but what is said of it
# below by artefacts, norms and latents need not be its own; where the groups differ is not touched by that.

# %% tags=["hide-input"]
suited = suitability(came, reference, planes_beside(p))
fits = (suited["unsuited"] == "").to_numpy()
brains = suited_part(came, suited)
left_out = came.refused | suited.loc[~fits, "unsuited"].to_dict()
print(f"{len(brains)} brains are used, {len(left_out)} entries of the folder or its table are not")
print(*(f"{brain} is left out: {why}" for brain, why in left_out.items()), sep="\n")
unlike = suited.loc[fits, "unlike"]
print(
    *(f"{brain} is unlike the reference: {why}" for brain, why in unlike.items() if why), sep="\n"
)
asked = [p.lab.group] if p.lab.group else []  # where no groups are asked about, none are compared
for term in asked:
    used, without = usable_brains(brains.metadata, term, p.lab.covariates)
    design = design_of(brains.metadata[used], term, p.lab.covariates)
    print(f"{design.contrast}: {used.sum()} brains; terms: {', '.join(design.columns)}")
    print(*(f"{brain} is not compared: {why}" for brain, why in without.items()), sep="\n")
of_two = [term for term in asked if " − " in design.contrast]
mapped = [term for term in asked if design.tested.sum() == 1]  # two groups, or a slope

# %% [markdown]
# ## Artefacts
#
# A model that does not reproduce artefacts shows them as its error. What such errors mean was learned on artefacts planted in
# the reference cohort's held-out brains, and on brains of unusual anatomy, which is no damage. The model is PCA, whose errors
# serve as well as the β-VAE's or better ([Your brains](../book/your_brains.md)). The probability is that of a brain of which 15 in 100 have an artefact.

# %%
ordinary = clean_part(reference, "validation").images
ways = [
    (factor, 2.5 * way)
    for factor in ("ventricle_size", "cortical_thickness", "ap_position")
    for way in (-1, 1)
]
unusual = [displaced(ordinary[:20], reference.atlas, *way) for way in ways]
planted = graded_artefacts(reference, p.evaluation.artefact_strengths, p.evaluation.n_graded)
judge = ArtefactJudge(pca, np.concatenate([ordinary, *unusual]), planted)
judged = judge(brains.images)
names = brains.metadata.index
worst = np.argsort(-judged.probability, kind="stable")
words = [
    f"{kind} {p:.2f}{why and ', unlike'}"
    for kind, p, why in zip(judged.kind, judged.probability, unlike, strict=True)
]

# %%
sheet = figures.fig_contact_sheet(
    brains.images[worst],
    names[worst],
    np.array(words)[worst],
    brains.atlas.pixel_um,
    masks=judged.masks[worst],
).made_from(
    f"{len(brains)} brains of {came.name}; reference {reference.name}, {len(ordinary)} clean brains"
)
sheet.savefig(out / "contact_sheet.png")
sheet

# %% [markdown]
# ## Cleaned
#
# Inside the outline stands what the model makes of the rest of the brain; every other pixel is the same as before, to the bit.

# %%
few = worst[: max(1, min(4, int((judged.kind != "none").sum())))]
clean = cleaned(model, brains.images, judged.masks)
np.savez_compressed(out / "cleaned.npz", brains=list(names), cleaned=clean, masks=judged.masks)
figures.fig_reconstructions(
    brains.images[few],
    {"Cleaned": clean[few]},
    brains.atlas.pixel_um,
    list(names[few]),
    first_row="As it came",
).shows("The brains that need it most, as they came and cleaned.").made_from(came.name)

# %% [markdown]
# ## How unusual is each brain?
#
# Each region's brightness is held against that of the reference cohort's clean brains. Brains are compared as they came, not cleaned. What is
# in one place only shows better in PCA's error, averaged in tiles of 0.4 mm and held against clean brains that PCA was not fitted to.

# %%
regions = brains.atlas.regions(p.fields.region_share)
masks = brains.atlas.roi_masks(regions)
usual = region_brightness(clean_part(reference, "train").images, masks).T
mine = pd.DataFrame(region_brightness(brains.images, masks).T, names, regions)
norm = Norm(usual)
z = pd.DataFrame(norm.z(mine), names, regions)
print(f"z (brains, regions) = {z.shape}")

# %%
figures.fig_deviations(z).made_from(
    f"{len(brains)} brains of {came.name}; norm of {len(usual)} clean brains of {reference.name}"
)

# %%
inside = brains.atlas.brain_mask
side = round(400 / brains.atlas.pixel_um)
tiles = block_mean(inside.astype(np.float32), side) > 0.5
held_out = np.concatenate([ordinary, clean_part(reference, "test").images])
errors = [block_mean(x - pca.reconstruct(x), side)[:, tiles] for x in (held_out, brains.images)]
local = Norm(errors[0])
local_z = local.largest(errors[1])
print(
    f"tiles of {side * brains.atlas.pixel_um:g} µm: {tiles.sum()}; norm of {len(held_out)} brains"
)

# %% tags=["hide-input"]
odd = np.argsort(-local_z, kind="stable")[:4]
where = np.zeros((len(odd), *tiles.shape))
where[:, tiles] = np.abs(local.z(errors[1][odd]))
figures.fig_error_maps(
    brains.images[odd],
    {"PCA": where.repeat(side, axis=1).repeat(side, axis=2)},
    [f"brain {name}" for name in names[odd]],
    brains.atlas.pixel_um,
    judged.masks[odd],
    label="Deviation (standard deviations)",
).shows("The brains that deviate most in one place, and where.").made_from(
    f"{len(brains)} brains of {came.name}; norm of {len(held_out)} clean brains of {reference.name}"
)

# %% tags=["hide-input"]
of_brain = came.metadata.drop(columns="gain").merge(
    suited, left_index=True, right_index=True, suffixes=(" (table)", "")
)
of_brain["used"] = fits
of_brain.loc[names, "artefact_probability"] = judged.probability
of_brain.loc[names, "artefact_kind"] = judged.kind
of_brain.loc[names, "whole_z"] = norm.whole(mine)
of_brain.loc[names, "local_z"] = local_z
of_brain.join(z.add_suffix("_z")).to_csv(out / "brains.csv")
shown = ["fit", "artefact_probability", "artefact_kind", "whole_z", "local_z"]
in_numbers = {
    "brains, those first that need a look": of_brain.loc[names[worst], shown].round(2).head(12)
}

# %% [markdown]
# ## In what the groups differ
#
# A linear model a measure, with the covariates as terms. Three kinds of measures are asked: the mean brightness of each region, which is what
# labs use today; the latents; and every pixel. A region counts by its q, the share of false finds among all regions that are as clear. A pixel or a latent
# counts if of twenty deals, in which what the covariates leave is dealt out to the brains anew, no more than one has one as clear anywhere. With fewer than
# five brains in a group take `p_permuted`. The map and the power below are of two groups; of a slope there is the map alone.

# %%
codes = pd.DataFrame(
    model.encode(brains.images), names, [f"F{i + 1}" for i in range(p.model.latent_dim)]
)
measures = {"region": mine, "latent": codes, "pixel": pd.DataFrame(brains.images[:, inside], names)}

# %%
tables = {
    kind: group_differences(values[used], design, n_permutations=p.lab.n_permutations)
    for _ in asked
    for kind, values in measures.items()
}
p_family = np.ones(brains.atlas.shape)
for _ in asked:
    p_family[inside] = tables["pixel"]["p_family"]

# %% tags=["hide-input"]
for _ in asked:
    clearest = tables["region"].sort_values("p").head(14)
    in_sd = clearest[["effect", "effect_low", "effect_high"]].set_axis(
        ["value", "low", "high"], axis=1
    )
    told = clearest["measure"] + ", q = " + clearest["q"].map("{:.2g}".format)
    source = f"{used.sum()} brains of {came.name}, intervals of 95 %"
    display(
        figures.fig_differences(
            in_sd.assign(region=told), f"Brightness: {design.effect}", group="region"
        )
        .shows(
            "The regions that differ most. A filled marker is of that region alone; what counts is q."
        )
        .made_from(source)
    )

# %% tags=["hide-input"]
for _ in mapped:
    maps = {
        name: np.zeros(brains.atlas.shape) for name in (design.contrast, "as the latents have it")
    }
    maps[design.contrast][inside] = tables["pixel"]["value"].fillna(0)
    half = (tables["latent"]["value"].fillna(0) / 2).to_numpy()
    low, high = model.decode(
        (codes[used].mean().to_numpy() + np.stack([-half, half])).astype(np.float32)
    )
    maps["as the latents have it"] = high - low
    mean = brains.images[used].mean(axis=0)
    display(
        figures.fig_group_maps(mean, maps, p_family, "mean of all", brains.atlas.pixel_um)
        .shows("The difference by pixel, and the model's picture of how the mean codes differ.")
        .made_from(source)
    )

# %% tags=["hide-input"]
for _ in asked:
    of_measure = [table.assign(of=kind) for kind, table in tables.items() if kind != "pixel"]
    table = pd.concat(of_measure, ignore_index=True)
    table["name"] = table["measure"].map(brains.atlas.structures.set_index("acronym")["name"])
    is_region = table["of"] == "region"
    table.loc[is_region, "percent"] = 100 * table["value"] / table["measure"].map(mine[used].mean())
    table.to_csv(out / "differences.csv", index=False)
    clear = is_region & (table["q"] < 0.05) | ~is_region & (table["p_family"] < 0.05)
    in_numbers[f"clear differences, {design.contrast}"] = table[clear].round(3)
    in_numbers["pixels beyond chance"] = f"{(p_family < 0.05).sum()} of {inside.sum()}"
    damaged = ", ".join(names[used & (judged.kind != "none")]) or "none"
    print(
        f"compared though they have an artefact: {damaged}; without their files they are left out"
    )
    print(
        "none is clear, which is not the same as no difference: see the power" * (not clear.any())
    )

# %% [markdown]
# ## Of which kind is it?
#
# A difference may be anatomy, brightness, registration, or damage in a few brains. Each section is explained by measures of each kind, and the kind
# whose measures differ most is named where it leads clearly.

# %% tags=["hide-input"]
usual_mean = reference.split("train").images.mean(axis=0)
changes = section_changes(
    brains.images,
    usual_mean,
    inside,
    dict(zip(regions, masks, strict=True)),
    brains.atlas.pixel_um,
    plane_change(p, usual_mean, brains.atlas),
)
for _ in asked:
    is_damaged = judged.kind != "none"
    like = difference_kind(
        changes[used],
        design.matrix,
        design.tested,
        flagged=is_damaged[used],
        n_permutations=p.lab.n_permutations,
    )
    print(f"it looks like: {like.kind}")
    in_numbers["kinds of difference"] = like.table.round(3)

# %% [markdown]
# ## How many brains?
#
# How far brains of one group differ in a region says what so many brains can show. The regions are tested together, so each at 0.05
# divided by their number, and found in 80 of 100 studies. The table stands below, and in `power.csv`.

# %% tags=["hide-input"]
for _ in of_two:
    fitted = design.matrix @ np.linalg.lstsq(design.matrix, mine[used], rcond=None)[0]
    spread = np.sqrt(np.square(mine[used] - fitted).sum() / (used.sum() - design.matrix.shape[1]))
    share = 100 * spread / mine[used].mean()  # of a region's brightness, in %
    counts = np.sort(np.unique(design.matrix[:, design.tested], axis=0, return_counts=True)[1])
    few, many = counts
    n = len(regions)
    table = pd.DataFrame(
        {
            "spread within groups, %": share,
            f"smallest difference with {few} + {many}, %": [
                smallest_difference(s, few, many, n_measures=n) for s in share
            ],
            "brains a group for 5 %": [brains_needed(s, 5.0, n_measures=n) for s in share],
            "for 10 %": [brains_needed(s, 10.0, n_measures=n) for s in share],
        }
    )
    table.to_csv(out / "power.csv", index_label="region")
    in_numbers["power"] = table.sort_values("spread within groups, %").round(1)

# %% [markdown]
# ## What was planted
#
# Of simulated brains the truth is known. Of a lab's own it is not, and nothing is shown here.

# %% tags=["hide-input"]
for name, truth in lab_truth(p, reference).items():
    print(f"planted: {name}")
    display(
        figures.fig_group_maps(
            mean,
            {"found": maps[design.contrast], "planted": truth},
            p_family,
            "mean of all",
            brains.atlas.pixel_um,
        )
        .shows("What was found, and what was planted.")
        .made_from(source)
    )
    change = pd.Series([np.abs(truth[mask]).mean() for mask in masks], regions)
    told = (
        tables["region"].set_index("measure")[["value", "low", "high", "q"]].assign(planted=change)
    )
    in_numbers["planted and found, by region"] = told.sort_values("planted").tail(5).round(3)

# %% [markdown]
# ## The figures in numbers

# %% tags=["nbval-ignore-output"]
numbers = {
    "brains with an artefact, found": int((judged.kind != "none").sum()),
    "brains beyond 3 SD as a whole": int((np.abs(of_brain["whole_z"]) > 3).sum()),
    "median correlation with the reference": float(suited["fit"].median()),
}
display(Record(numbers, n_brains=len(brains), n_seeds=1))
for title, table in in_numbers.items():
    print(title)
    display(table)

# %% [markdown]
# **Found.** In the demo profile the knockouts' hippocampus was made 20 % brighter. Its two parts, CA and DG, are the clearest of 21 regions, and the difference is told as one of
# brightness. The four brains with a planted artefact come first in the contact sheet. So few pixels pass that a map by pixel alone would have missed most of it.
# How sure: one simulated lab of 12 and 12 (n = 1); how often each tool finds such a difference stands in [Your brains](../book/your_brains.md).

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
