"""What a model learned: which inputs move its latents, and which outputs its latents move."""

from brainvae_core.fields.association import (
    AgreementOfFits,
    BothDirections,
    agreement_draws,
    agreement_of_fits,
    both_directions,
    cross_agreement,
    field_agreement,
    own_over_others,
)
from brainvae_core.fields.independence import (
    ScoredFits,
    bootstrap_uncorrelatedness,
    impact_covariance,
    most_moved,
    normalised_impacts,
    scored_fits,
    uncorrelatedness,
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
    swap_donors,
    weight_range,
)
from brainvae_core.fields.rotated import Rotated
from brainvae_core.fields.truth import (
    PlantedFields,
    Recovery,
    planted_fields,
    recover,
    single_latent_r2,
)

__all__ = [
    "AgreementOfFits",
    "BothDirections",
    "PlantedFields",
    "ProjectiveField",
    "ReceptiveField",
    "Recovery",
    "Rotated",
    "ScoredFits",
    "agreement_draws",
    "agreement_of_fits",
    "asymmetry",
    "bootstrap_uncorrelatedness",
    "both_directions",
    "cross_agreement",
    "field_agreement",
    "impact_covariance",
    "most_moved",
    "normalised_impacts",
    "null_divergence",
    "outlier_latents",
    "own_over_others",
    "perturb",
    "planted_fields",
    "projective_field",
    "random_blobs",
    "receptive_field",
    "recover",
    "region_brightness",
    "region_profile",
    "scored_fits",
    "single_latent_r2",
    "stratified_rgb",
    "swap_donors",
    "tail_ratio",
    "traversal",
    "uncorrelatedness",
    "uncorrelatedness_null",
    "weight_range",
]
