"""What a model learned: which inputs move its latents, and which outputs its latents move."""

from brainvae_core.fields.association import (
    bootstrap_uncorrelatedness,
    field_agreement,
    impact_covariance,
    normalised_impacts,
    uncorrelatedness,
    uncorrelatedness_interval,
    uncorrelatedness_null,
)
from brainvae_core.fields.projective import (
    ProjectiveField,
    asymmetry,
    outlier_latents,
    projective_field,
    stratified_rgb,
    tail_ratio,
    traversal,
)
from brainvae_core.fields.receptive import ReceptiveField, null_divergence, receptive_field
from brainvae_core.fields.regions import (
    perturb,
    random_blobs,
    region_brightness,
    region_profile,
    weight_range,
)

__all__ = [
    "ProjectiveField",
    "ReceptiveField",
    "asymmetry",
    "bootstrap_uncorrelatedness",
    "field_agreement",
    "impact_covariance",
    "normalised_impacts",
    "null_divergence",
    "outlier_latents",
    "perturb",
    "projective_field",
    "random_blobs",
    "receptive_field",
    "region_brightness",
    "region_profile",
    "stratified_rgb",
    "tail_ratio",
    "traversal",
    "uncorrelatedness",
    "uncorrelatedness_interval",
    "uncorrelatedness_null",
    "weight_range",
]
