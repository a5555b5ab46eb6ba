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
# # 11 · Your own brains
#
# **Which of these brains can be used, which are unusual, and in what do two groups differ?** The chapter takes a folder of
# registered brains and a table of them. No model is fitted to them: a large reference cohort says what is usual, and a model of that cohort
# finds artefacts.

# %% [markdown] tags=["example"]
# Where no folder is given, 12 wild types and 12 knockouts are simulated; what was planted in them is told at the end.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file: the reference cohort and its model
settings = ""  # any others, as text: book/running.md
brains = None  # a folder of registered brains, or one brain
group = None  # the column of metadata.csv that tells the groups; "" where there are none
covariates = None  # other columns, such as ["sex", "age_days"]

# %% tags=["hide-input", "read"]
from brainvae_core.settings import read_settings

p = read_settings(globals(), about="lab")

# %% tags=["hide-input"]
import numpy as np
from brainvae_core import figures, lab, lab_groups
from brainvae_core.cohorts import clean_part, suitability, suited_part
from brainvae_core.metrics import cleaned
from brainvae_core.models import fit
from brainvae_core.prepare import lab_brains, planes_beside, prepare_cohort
from brainvae_core.record import Record, Tables
from brainvae_core.study import compared_configs
from IPython.display import display

# %% tags=["read"]
reference = prepare_cohort(p)
came = lab_brains(p, reference)
print(f"reference: {reference}", came, sep="\n")

# %% [markdown]
# ## What is left out
#
# A brain is left out of everything below where it cannot be read, or where it is no section such as the model knows: upside down, mirrored,
# of another contrast, plane or modality. Another unit of brightness is no reason. A brain that is unlike the reference's is used, but what is said of it
# below by artefacts, norms and latents need not be its own; where the groups differ is not touched by that.

# %% tags=["left-out"]
suited = suitability(came, reference, planes_beside(p))
brains = suited_part(came, suited)
groups = lab_groups.asked_groups(p, brains, lab.left_out(came, suited))
print(lab.told_brains(p, came, suited, groups))

# %%
fitted = compared_configs(p)
pca, model = (
    fit(reference, fitted[name], p.places.runs, p.places.device).model for name in ("PCA", "β-VAE")
)
names, pixel_um = brains.metadata.index, brains.atlas.pixel_um
source = f"{len(brains)} brains of {came.name}; reference {reference.name}"

# %% [markdown]
# ## Artefacts
#
# A model that does not reproduce artefacts shows them as its error. What such errors mean was learned on artefacts planted in
# the reference cohort's held-out brains, and on brains of unusual anatomy, which is no damage. The model is PCA, whose errors
# serve as well as the β-VAE's or better ([Your brains](../book/your_brains.md)). The probability is that of a brain of which 15 in 100 have an artefact.

# %%
judged = lab.artefact_judge(p, reference, pca)(brains.images)
worst = np.argsort(-judged.probability, kind="stable")
words = lab.said_of(judged, suited)

# %%
sheet = figures.fig_contact_sheet(
    brains.images[worst], names[worst], words[worst], pixel_um, masks=judged.masks[worst]
).made_from(source)
sheet

# %% [markdown]
# ## Cleaned
#
# Inside the outline stands what the model makes of the rest of the brain; every other pixel is the same as before, to the bit.

# %%
clean = cleaned(model, brains.images, judged.masks)
few = worst[: max(1, min(4, (judged.kind != "none").sum()))]
before_after = (
    figures.fig_reconstructions(
        brains.images[few], {"Cleaned": clean[few]}, pixel_um, names[few], first_row="As it came"
    )
    .shows("The brains that need it most, as they came and cleaned.")
    .made_from(source)
)
before_after

# %% [markdown]
# ## How unusual is each brain?
#
# Each region's brightness is held against that of the reference cohort's clean brains, of the same sex, age and strain as far as both tables tell them. Brains are compared as they came, not cleaned.

# %%
by_region = lab.region_deviations(p, reference, brains)
print(f"z (brains, regions) = {by_region.z.shape}", by_region.told, sep="\n")

# %%
deviations = figures.fig_deviations(by_region.z).made_from(by_region.source)
deviations

# %% [markdown]
# What is in one place only shows better in PCA's error, averaged in tiles of 0.4 mm and held against clean brains that PCA was not fitted to.

# %%
by_tile = lab.tile_deviations(reference, brains, pca)
odd = np.argsort(-by_tile.overall, kind="stable")[:4]
where = lab.tile_maps(by_tile, brains, odd)
print(f"z (brains, tiles) = {by_tile.z.shape}", by_tile.told, sep="\n")

# %%
places = (
    figures.fig_error_maps(
        brains.images[odd],
        {"PCA": where},
        [f"brain {name}" for name in names[odd]],
        pixel_um,
        judged.masks[odd],
        label="Deviation (standard deviations)",
    )
    .shows("The brains that deviate most in one place, and where.")
    .made_from(by_tile.source)
)
places

# %% [markdown] tags=["groups"]
# ## In what the groups differ
#
# A linear model a measure, with the covariates as terms. Three kinds of measures are asked: the mean brightness of each region, which is what
# labs use today; the latents; and every pixel. A region counts by its q, the share of false finds among all regions that are as clear. A pixel or a latent
# counts if of twenty deals, in which what the covariates leave is dealt out to the brains anew, no more than one has one as clear anywhere. With fewer than
# five brains in a group take `p_permuted`. Brains with an artefact are compared like any other; without their files they are left out. The map and the power below are of two groups; of a slope there is the map alone.

# %% tags=["groups"]
means = lab.region_means(p, brains)
codes = lab_groups.codes_of(model, brains)
differ = groups and lab_groups.differences(p, brains, groups, {"region": means, "latent": codes})
print(lab_groups.told_differences(brains, groups, differ, judged))

# %% tags=["groups"]
clearest = groups and (
    figures.fig_differences(
        lab_groups.clearest(differ), f"Brightness: {groups.design.effect}", group="region"
    )
    .shows("The regions that differ most. A filled marker is of that region alone; q counts.")
    .made_from(f"{groups.used.sum()} brains of {came.name}, intervals of 95 %")
)
clearest

# %% tags=["groups"]
maps = groups and lab_groups.group_maps(brains, groups, differ, codes, model)
mapped = maps and (
    figures.fig_group_maps(*maps)
    .shows("The difference by pixel, and the model's picture of how the mean codes differ.")
    .made_from(f"{groups.used.sum()} brains of {came.name}")
)
mapped

# %% [markdown] tags=["groups"]
# ## Of which kind is it?
#
# A difference may be anatomy, brightness, registration, or damage in a few brains. Each section is explained by measures of each kind, and the kind
# whose measures differ most is named where it leads clearly.

# %% tags=["groups"]
like = groups and lab_groups.kind_of_difference(p, reference, brains, groups, judged)
print(lab_groups.told_kind(like))

# %% [markdown] tags=["groups"]
# ## How many brains?
#
# How far brains of one group differ in a region says what so many brains can show. The regions are tested together, so each at 0.05
# divided by their number, and found in 80 of 100 studies. The table stands below, and in `power.csv`.

# %% tags=["groups"]
usual = lab.region_means(p, clean_part(reference, "train"))
power = groups and lab_groups.power_of(groups, means, usual)
curves = power and figures.fig_power(power.curve, power.n_now).made_from(
    f"Spread within groups of {groups.used.sum()} brains of {came.name}"
)
curves

# %% [markdown] tags=["example"]
# ## What was planted
#
# Of simulated brains the truth is known. Of a lab's own it is not: nothing is shown here.

# %% tags=["example"]
planted = maps and lab_groups.planted_maps(p, reference, maps)
planted and figures.fig_group_maps(*planted).shows(
    "What was found, and what was planted."
).made_from(source)

# %% [markdown]
# ## The figures in numbers

# %% tags=["nbval-ignore-output"]
of_brain = lab.brain_table(came, suited, groups, judged, by_region, by_tile)
shown = ["fit", "artefact_probability", "artefact_kind", "whole_z", "local_z"]
numbers = {
    "brains with an artefact, found": int((judged.kind != "none").sum()),
    "brains beyond 3 SD as a whole": int((by_region.overall > 3).sum()),
    "median correlation with the reference": float(suited["fit"].median()),
}
display(Record(numbers, n_brains=len(brains), n_seeds=1))
Tables(
    {
        "brains, those first that need a look": of_brain.loc[names[worst[:12]], shown].round(2),
        "how many are clear": groups and lab_groups.clear_counts(differ),
        "clear differences": groups
        and lab_groups.of_measures(lab_groups.clear_differences(differ)).round(3),
        "kinds of difference": like and like.table.round(3),
        "power": power and power.table.round(1),
        "planted and found, by region": planted
        and lab_groups.planted_regions(brains, planted, differ),
    }
)

# %% [markdown] tags=["example"]
# **Found.** The knockouts' hippocampus was made 20 % brighter. Its two parts, CA and DG, are the clearest of 21 regions, and the difference is told as one of
# brightness. The four brains with a planted artefact come first in the contact sheet. So few pixels pass that a map by pixel alone would have missed most of it.
# How sure: one simulated lab of 12 and 12 (n = 1); how often each tool finds such a difference stands in [Your brains](../book/your_brains.md).

# %% tags=["hide-input"]
report = {
    "brains.csv": of_brain,
    "cleaned.npz": {"brains": list(names), "cleaned": clean, "masks": judged.masks},
    "contact_sheet.png": sheet,
    "cleaned.png": before_after,
    "deviations.png": deviations,
    "places.png": places,
    "differences.csv": groups and lab_groups.of_measures(differ),
    "differences.png": clearest,
    "group_maps.png": mapped,
    "power.csv": power and power.table,
    "power.png": curves,
}
folder = lab.keep(p, came.name, report)

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
