"""One training step of the demo (batch 16 at 160 × 224), with and without what makes it fast.

Pairs are interleaved in one process, so that a ratio holds on a noisy machine. Keeping freed memory
is a setting of the whole process: it is measured in processes of its own.
"""

import statistics
import subprocess
import sys
import time

import torch

from brainvae_core.models import BetaVAE, beta_vae
from brainvae_core.models.objective import gaussian, kl_divergence, reparameterise

ROUNDS, STEPS = 5, 4


def one_step(model, optimiser, images, generator):
    mean, logvar = model.posterior_parameters(images)
    logits = model.logits(reparameterise(mean, logvar, generator))
    loss = gaussian(logits, images, 0.05).mean() + 3 * kl_divergence(mean, logvar).sum(1).mean()
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def measure():
    images = torch.rand((16, 160, 224))
    generator = torch.Generator().manual_seed(0)
    layouts = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
    seconds = {name: [] for name in layouts}
    fitted = {}
    for name, layout in layouts.items():
        model = BetaVAE(8, (160, 224)).to(memory_format=layout)
        fitted[name] = model, torch.optim.AdamW(model.parameters())
        one_step(*fitted[name], images, generator)
    for _ in range(ROUNDS):
        for name, (model, optimiser) in fitted.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                one_step(model, optimiser, images, generator)
            seconds[name].append((time.perf_counter() - start) / STEPS)
    return {name: statistics.median(values) for name, values in seconds.items()}


if len(sys.argv) > 1:
    if sys.argv[1] == "returned":
        beta_vae.keep_freed_memory = lambda: None
    for layout, value in measure().items():
        print(f"{layout},{value}")
else:
    found = {}
    for memory in ("kept", "returned"):
        answer = subprocess.run([sys.executable, __file__, memory], capture_output=True, text=True)
        answer.check_returncode()
        for line in answer.stdout.split("\n")[:-1]:
            layout, value = line.split(",")
            found[memory, layout] = float(value)
    fast = found["kept", "channels last"]
    for (memory, layout), value in found.items():
        print(f"memory {memory:8} {layout:13} {value:.3f} s a step, {value / fast:.2f}×")
    print(f"{torch.get_num_threads()} threads; median of {ROUNDS} rounds of {STEPS} steps")
