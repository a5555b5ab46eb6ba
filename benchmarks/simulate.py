"""Simulating 256 brains at 320 × 448: seconds beside the limit, and cost against size."""

import resource
import statistics
import time

from brainvae_core.cohorts import drawn_atlas, simulate

LIMIT_S = 10.0

atlas = drawn_atlas()
simulate(n_brains=32, atlas=atlas)
for n_brains in (64, 128, 256):
    seconds = []
    for seed in range(3):
        start = time.perf_counter()
        simulate(n_brains=n_brains, atlas=atlas, seed=seed)
        seconds.append(time.perf_counter() - start)
    print(
        f"{n_brains:4} brains at 320 × 448: median {statistics.median(seconds):.2f} s of 3 "
        f"({min(seconds):.2f} to {max(seconds):.2f})"
    )
print(f"limit for 256 brains: {LIMIT_S:.0f} s on two cores")
print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
