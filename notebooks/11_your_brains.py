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
# **Which of a lab's brains can be used, which are unusual, and how do two groups differ?**
#
# The input is a folder of registered brains and a table of them. Nothing is fitted to them: a large reference cohort says what is usual, and models fitted to
# that cohort find artefacts and give codes.

# %% [markdown] tags=["book"]
# **Answer.** {glue:text}`lab_used` of {glue:text}`lab_came` brains of an example lab are used, and {glue:text}`lab_artefacts` of them have an artefact.
# Between its groups {glue:text}`lab_clear` of {glue:text}`lab_regions` regions differ clearly, first {glue:text}`lab_clearest`, and the difference is called {glue:text}`lab_kind`.
# Any other model that can encode and decode can be read likewise: the example is a parcellation into {glue:text}`lab_latents` parcels.

# %% [markdown] tags=["example"]
# Where no folder is given, a lab is simulated: 12 wild types and 12 knockouts, whose hippocampus was made 22 % brighter, before sections were brought to one brightness. `make report` makes this
# chapter of your own brains; [Your brains](../book/your_brains.md) says what it needs.

# %% tags=["parameters", "hide-input"]
profile = "full"  # params/full.yaml, or the path of a YAML file: the reference cohort and its model
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
from brainvae_core.cohorts import clean_part, suitability, suitable_brains
from brainvae_core.fields import both_directions, field_agreement
from brainvae_core.figures.style import percent
from brainvae_core.metrics import explained_variance, inpaint
from brainvae_core.models import PCA, FromSklearn, fit
from brainvae_core.prepare import lab_brains, neighbouring_planes, prepare_cohort
from brainvae_core.record import Record, Tables, quoted
from brainvae_core.study import compared_configs
from IPython.display import display
from sklearn.cluster import FeatureAgglomeration
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# %% tags=["read", "hide-input"]
reference = prepare_cohort(p)
all_brains = lab_brains(p, reference)
print(f"reference: {reference}", all_brains, sep="\n")

# %% [markdown]
# ## What is left out
#
# A brain is left out if it cannot be read, lies upside down or (where its sides can be told) mirrored, or is of another contrast, plane or modality. A brain that is unlike the
# reference's is used. Its artefacts, norms and latents may then be wrong; comparisons by region and by pixel do not
# read the reference, but poor registration, a common reason, affects them too: look at these brains first.

# %% tags=["left-out", "hide-input"]
checks = suitability(all_brains, reference, neighbouring_planes(p))
brains = suitable_brains(all_brains, checks)
groups = lab_groups.groups_to_compare(p, brains, lab.excluded_brains(all_brains, checks))
print(lab.describe_brains(p, all_brains, checks, groups))

# %% tags=["hide-input"]
configs, where = compared_configs(p), (p.places.runs, p.places.device)
pca, run = fit(reference, configs["PCA"], *where).model, fit(reference, configs["β-VAE"], *where)
model, made = run.model, {"run": run.folder.name, **run.made}
names, pixel_um = brains.metadata.index, brains.atlas.pixel_um
source = f"{len(brains)} brains of {all_brains.name}; reference {reference.name}"

# %% [markdown]
# ## Artefacts
#
# A model that does not reproduce artefacts shows them as its error. What such errors mean was learned on artefacts planted in held-out brains
# of the reference, and on unusual anatomy, which is no damage. The errors are PCA's: the β-VAE's serve no better ([Your brains](../book/your_brains.md)).
# The probability assumes that 15 in 100 brains have an artefact.

# %% tags=["hide-input"]
judgement = lab.train_artefact_judge(p, reference, pca)(brains.images)
worst = np.argsort(-judgement.probability, kind="stable")
words = lab.artefact_labels(judgement, checks)
marked = {"words": words[worst], "masks": judgement.masks[worst], "columns": 6}
sheet = figures.fig_sections(brains.images[worst], names[worst], pixel_um, **marked)
sheet.shows(
    "Every brain that is used, with the likeliest artefact and the probability of one; outlines mark where."
).made_from(source)

# %% [markdown]
# ## Artefacts removed
#
# Where an artefact was outlined, the β-VAE's prediction from the rest of the brain takes its place. All other pixels are unchanged: a rim can stay, and of a grid the bright squares between its lines.

# %% tags=["hide-input"]
clean = inpaint(model, brains.images, judgement.masks)
few = worst[: max(1, min(4, (judgement.kind != "none").sum()))]
these = brains.images[few], {"Cleaned": clean[few]}, pixel_um, names[few]
before_after = figures.fig_reconstructions(*these, first_row="As it came").made_from(source)
before_after.shows("The brains whose artefacts are likeliest, as they came and cleaned.")

# %% [markdown]
# ## How unusual is each brain?
#
# Each region's brightness is compared with clean brains of the reference, of the same sex, age and strain where both tables have them. In a simulated
# reference the effects of these are invented. Brains are compared as they came, not cleaned.

# %% tags=["hide-input"]
by_region = lab.region_deviations(p, reference, brains)
print(f"z (brains, regions) = {by_region.z.shape}", by_region.summary, sep="\n")
z = lab_groups.by_group(by_region.z, brains, groups)
deviations = figures.fig_deviations(z).made_from(by_region.source)
deviations.shows(
    "How far each region of each brain lies from the reference, in standard deviations."
)

# %% [markdown]
# A change in one place is clearer in PCA's error, averaged in tiles of 0.4 mm and compared with clean brains that PCA was not fitted to.

# %% tags=["hide-input"]
by_tile = lab.tile_deviations(reference, brains, pca)
odd = np.argsort(-by_tile.overall, kind="stable")[:4]
where = lab.tile_maps(by_tile, brains, odd)
print(f"z (brains, tiles) = {by_tile.z.shape}", by_tile.summary, sep="\n")

# %% tags=["hide-input"]
titles = [f"brain {name}" for name in names[odd]]
these = brains.images[odd], {"PCA": where}, titles, pixel_um, judgement.masks[odd]
places = figures.fig_error_maps(*these, label="Deviation (standard deviations)")
places.shows("The brains that deviate most in one place, and PCA's error in each tile.").made_from(
    by_tile.source
)

# %% [markdown] tags=["groups"]
# ## How the groups differ
#
# Three measures are compared by linear models with the covariates as terms: each region's mean brightness, the latents, and every pixel. A region
# differs clearly if its q is below 0.05: q is the expected share of false finds among all regions with a q as small. A latent or a pixel differs clearly if fewer than
# one shuffle in twenty gives any of them so large a statistic. With fewer than five brains in a
# group use `p_family`. Brains with an artefact are compared like any other; remove their files to leave them out.

# %% tags=["groups"]
means = lab.region_means(p, brains)
codes = lab_groups.latent_codes(model, brains)
measures = {"region": means, "latent": codes}
differ = groups and lab_groups.compare_groups(p, brains, groups, measures)
print(lab_groups.describe_differences(brains, groups, differ, judgement))

# %% tags=["groups", "hide-input"]
of_groups = groups and f"{groups.used.sum()} brains of {all_brains.name}, intervals of 95 %"
clearest = groups and figures.fig_differences(
    lab_groups.top_regions(differ), f"Brightness: {groups.design.effect}", group="region"
).shows("The regions that differ most. A bar judges one region by itself; q decides.")
clearest and clearest.made_from(of_groups)

# %% tags=["groups", "hide-input"]
maps = groups and lab_groups.group_maps(brains, groups, differ, codes, model)
mapped = maps and figures.fig_group_maps(*maps).made_from(of_groups)
mapped and mapped.shows(
    "The mean section, the difference by pixel, and the difference that the latents decode to, "
    "which says nothing where no latent differs clearly."
)

# %% [markdown] tags=["groups"]
# ## What kind of difference is it?
#
# A difference may be anatomy, brightness, registration, or damage in a few brains. Measures of each kind are compared, and the kind that differs most
# is named if it leads clearly.

# %% tags=["groups", "hide-input"]
like = groups and lab_groups.classify_difference(p, reference, brains, groups, judgement)
print(lab_groups.describe_kind(like))

# %% [markdown] tags=["groups"]
# ## How many brains?
#
# The spread within a group says how small a difference so many brains can show: found in 80 of 100 studies, at 0.05 divided by the number of regions.
# The table below and `power.csv` have every region.

# %% tags=["groups", "hide-input"]
usual = lab.region_means(p, clean_part(reference, "train"))
power = groups and lab_groups.power_analysis(groups, means, usual)
curves = power and figures.fig_power(power.curve, power.n_now).made_from(of_groups)
curves and curves.shows(
    "The smallest difference of a region's brightness that so many brains find."
)

# %% [markdown]
# ## The figures in numbers
#
# For a brain: `correlation` is with the reference's mean section (`fit` in `brains.csv`). `whole_z` and `local_z` are how far it lies from the norm, as a whole and in its most unusual tile, in SD.
# For a difference: `value` is in grey values (1 is white) or units of the latent, with its interval. `p_permuted` is by shuffling, `p_family` and
# `q` are over all measures of a kind. `differences.csv` has every measure, and its `effect` in standard deviations.
# For a kind: `score` is the kind's largest statistic divided by what 95 % of shuffles stay below, `share` its part of all kinds' squared scores. `planted` is the true difference, where the lab is simulated.

# %% tags=["hide-input"]
planted = maps and lab_groups.planted_maps(p, reference, maps)
first = ["measure", "value", "low", "high", "q", "p_permuted", "p_family", "percent", "name"]
clear = groups and lab_groups.without_pixels(lab_groups.clear_differences(differ))[first].round(3)
of_brain = lab.brain_table(all_brains, checks, groups, judgement, by_region, by_tile)
counts = groups and lab_groups.clear_counts(differ).rename_axis(None)
found = planted and lab_groups.planted_regions(brains, planted, differ).round(3)
shown = ["fit", "artefact_probability", "artefact_kind", "whole_z", "local_z"]
suspects = of_brain.loc[names[worst[:12]], shown].rename(columns={"fit": "correlation"})

# %% tags=["hide-input", "nbval-ignore-output"]
numbers = {
    "brains with an artefact, found": int((judgement.kind != "none").sum()),
    "brains beyond 3 SD as a whole": int((by_region.overall > 3).sum()),
    "median correlation with the reference": float(checks["fit"].median()),
}
display(Record(numbers, n_brains=len(brains), n_seeds=1))
Tables(
    {
        "brains, those first that need a look": suspects.round(2),
        "measures that differ clearly": counts,
        "clear differences": clear,
        "kinds of difference": like and like.table.round(3),
        "power": power and power.table.round(1),
        "planted and found": found,
    }
)

# %% tags=["hide-input"]
report = {
    "brains.csv": of_brain,
    "cleaned.npz": {"brains": list(names), "cleaned": clean, "masks": judgement.masks},
    "contact_sheet.png": sheet,
    "cleaned.png": before_after,
    "deviations.png": deviations,
    "places.png": places,
    "differences.csv": groups and lab_groups.without_pixels(differ),
    "differences.png": clearest,
    "group_maps.png": mapped,
    "power.csv": power and power.table,
    "power.png": curves,
}
folder = lab.save(p, all_brains.name, report, {"cohort": reference.fingerprint, "β-VAE": made})

# %% [markdown] tags=["book"]
# ## Your own model
#
# Anything with `encode(images)` and `decode(z)` can be read as chapters 7 to 9 read the β-VAE. `FromSklearn` gives these two to a fitted estimator of scikit-learn, and
# `FromTorch` to modules of PyTorch. The example joins neighbouring pixels that vary together, until there are as many parcels as the β-VAE has
# latents: a code is the mean grey of each parcel. It is fitted at {glue:text}`lab_size` pixels.

# %% tags=["book", "hide-input"]
coarse = reference.resampled(p.grid.shape)
train, shape = coarse.split("train").images, coarse.atlas.shape
joined = FeatureAgglomeration(p.model.latent_dim, connectivity=grid_to_graph(*shape))
pipeline = make_pipeline(StandardScaler(with_std=False), joined).fit(train.reshape(len(train), -1))

# %% tags=["book"]
masks = coarse.atlas.roi_masks(p.fields.rois)
some = clean_part(coarse).images[: p.fields.n_read]
c = np.linspace(-p.fields.c_max, p.fields.c_max, 29)
parcels = FromSklearn(pipeline, shape, images=train)
read = both_directions(parcels, some, masks, c)

# %% tags=["book", "hide-input"]
asked = f"Cohort {reference.name}: {len(some)} clean test brains, one fit"
both = figures.fig_region_profile(read.profile, p.fields.rois, read.receptive.divergence)
both.shows("The regions that each parcel (F) moves, and those that move it.").made_from(asked)

# %% [markdown] tags=["book"]
# A parcel is read and written at the same pixels, so its two fields agree: their rank correlation is {glue:text}`lab_parcels_agree` on average over {glue:text}`lab_parcels_inside` parcels. Tidy
# fields do not measure quality. The parcellation explains {glue:text}`lab_parcels_explain` of the test brains' variance, a PCA with as many latents {glue:text}`lab_pca_explains`.

# %% tags=["book", "hide-input"]
test, mean = coarse.split("test").images, train.mean(axis=0)
of_parcels = explained_variance(test, parcels.reconstruct(test), mean)
of_pca = explained_variance(test, PCA.fit(train, p.model.latent_dim).reconstruct(test), mean)
inside = (np.ptp(read.profile, axis=1) > 0) & (np.ptp(read.receptive.divergence, axis=0) > 0)
agree = field_agreement(read.receptive.divergence, read.profile, inside)[inside]
quoted(
    lab_came=len(all_brains),
    lab_used=len(brains),
    lab_artefacts=numbers["brains with an artefact, found"],
    lab_latents=p.model.latent_dim,
    lab_size=f"{shape[0]} × {shape[1]}",
    lab_parcels_agree=f"{agree.mean():.2f}",
    lab_parcels_inside=int(inside.sum()),
    lab_parcels_explain=percent(of_parcels, 0),
    lab_pca_explains=percent(of_pca, 0),
)

# %% tags=["book", "groups", "hide-input"]
groups and quoted(
    lab_clear=int(lab_groups.clear_counts(differ).loc["region", "clear"]),
    lab_regions=int(lab_groups.clear_counts(differ).loc["region", "of"]),
    lab_clearest=" and ".join(lab_groups.top_regions(differ)["region"].str.split(",").str[0][:2]),
    lab_kind=like.kind,
)

# %% [markdown] tags=["book"]
# **How sure.** One simulated lab of {glue:text}`lab_used` brains (n = 1) and the first fit of each model. A lab whose groups differ less, or whose brains are real, can
# come out otherwise. How often each tool finds such a difference was measured with an earlier recipe and judge, on 1,152 studies: [Your brains](../book/your_brains.md).

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
