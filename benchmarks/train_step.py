"""One training step of the demo (16 sections at 160 × 224), and encoding and decoding 64 sections
at 320 × 448: the project's network against the same layers written plainly.

Plain is a plain loop: PyTorch's own modules, their memory layout (NCHW), PyTorch's default AdamW,
and glibc as it is. The others are the project's network and a fused AdamW, with freed memory kept
(as the network asks) or returned, and with either memory layout. All in float32 and eager.

Whether memory is kept is a setting of a whole process, so each setting runs in its own. They take
turns, one at a time, and ratios are taken turn by turn: they hold on a machine that is not idle.

    OMP_NUM_THREADS=2 python benchmarks/train_step.py [rounds]
"""

import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from torch import nn

from brainvae_core.models import vae

STEPS, BATCH, LATENT_DIM = 3, 16, 8
DEMO, PAPER = (160, 224), (320, 448)
SETTINGS = ["plain returned NCHW", "ours returned NCHW", "ours returned channels_last"]
SETTINGS += ["ours kept NCHW", "ours kept channels_last"]
TASKS = {"step": 1000 / STEPS, "encode": 1000 / 64, "decode": 1000 / 64}


class PlainVAE(nn.Module):
    """The network of `BetaVAE` in PyTorch's own modules, its parameters in the same order."""

    def __init__(self, latent_dim, image_shape):
        super().__init__()
        more = round(np.log2(image_shape[0] / 10))  # stride-2 layers beyond one
        down = [nn.Conv2d(c, 32, 4, stride=2, padding=1) for c in (1, *[32] * more)]
        layers = [*down, nn.Conv2d(32, 32, 4, padding=1), nn.Flatten()]
        layers += [nn.Linear(768, 256), nn.Linear(256, 256), nn.Linear(256, 2 * latent_dim)]
        self.encoder = nn.ModuleList(layers)
        layers = [nn.Linear(latent_dim, 256), nn.Linear(256, 256), nn.Linear(256, 768)]
        layers += [nn.Unflatten(1, (32, 4, 6)), nn.ConvTranspose2d(32, 32, 4, padding=1)]
        up = [nn.ConvTranspose2d(32, c, 4, stride=2, padding=1) for c in (*[32] * more, 1)]
        self.decoder = nn.ModuleList([*layers, *up])

    def posterior_parameters(self, images):
        return self.run(self.encoder, images[:, None]).chunk(2, dim=1)

    def logits(self, z):
        return self.run(self.decoder, z)[:, 0]

    @staticmethod
    def run(layers, signal):
        for layer in layers[:-1]:
            signal = torch.relu(layer(signal))
        return layers[-1](signal)


def negative_elbo(model, images, noise, beta=3.0, sigma=0.05):
    """Nats per image but for a constant."""
    mean, logvar = model.posterior_parameters(images)
    logits = model.logits(mean + noise * (0.5 * logvar).exp())
    misfit = (torch.sigmoid(logits) - images).square().sum() / (2 * sigma**2)
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum()
    return (misfit + beta * kl) / len(images)


def network(setting, image_shape):
    kind, memory, layout = setting.split()
    if kind == "plain":
        return PlainVAE(LATENT_DIM, image_shape)
    if memory == "returned":
        vae.keep_freed_memory = lambda: None
    model = vae.BetaVAE(LATENT_DIM, image_shape)
    return model if layout == "channels_last" else model.to(memory_format=torch.contiguous_format)


def tasks(setting):
    """What is timed, by name."""
    torch.manual_seed(0)
    small, large = network(setting, DEMO), network(setting, PAPER)
    plain = isinstance(small, PlainVAE)
    optimiser = torch.optim.AdamW(small.parameters(), fused=not plain)
    images, noise = torch.rand((BATCH, *DEMO)), torch.randn((BATCH, LATENT_DIM))
    sections = np.random.default_rng(0).random((64, *PAPER), dtype=np.float32)
    codes = np.random.default_rng(1).standard_normal((64, LATENT_DIM), dtype=np.float32)

    def step():
        for _ in range(STEPS):
            loss = negative_elbo(small, images, noise)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    @torch.no_grad()
    def encode():
        large.posterior_parameters(torch.from_numpy(sections))[0].numpy()

    @torch.no_grad()
    def decode():
        torch.sigmoid(large.logits(torch.from_numpy(codes))).numpy()

    if plain:
        return {"step": step, "encode": encode, "decode": decode}
    # Through NumPy, its checks included, as everybody calls it.
    return {
        "step": step,
        "encode": lambda: large.encode(sections),
        "decode": lambda: large.decode(codes),
    }


def work(setting):
    """Do what is named on standard input, and tell its seconds."""
    todo = tasks(setting)
    for line in sys.stdin:
        start = time.perf_counter()
        todo[line.strip()]()
        print(time.perf_counter() - start, flush=True)


def take_turns(rounds):
    """Seconds by task and setting, (rounds,) each."""
    workers = {
        setting: subprocess.Popen(
            [sys.executable, __file__, setting],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for setting in SETTINGS
    }
    seconds = {task: {setting: [] for setting in SETTINGS} for task in TASKS}
    for task in TASKS:
        for turn in range(-1, rounds):  # the first only warms up
            for setting, worker in workers.items():
                worker.stdin.write(task + "\n")
                worker.stdin.flush()
                answer = float(worker.stdout.readline())
                if turn >= 0:
                    seconds[task][setting].append(answer)
    for worker in workers.values():
        worker.communicate()
    return seconds


def main(rounds):
    plain = SETTINGS[0]
    for task, by_setting in take_turns(rounds).items():
        for setting, seconds in by_setting.items():
            ratios = [p / s for p, s in zip(by_setting[plain], seconds, strict=True)]
            low, _, high = statistics.quantiles(ratios, n=4)
            print(
                f"{task:7} {setting:28} {statistics.median(seconds) * TASKS[task]:7.2f} ms, "
                f"plain takes {statistics.median(ratios):.2f}× as long ({low:.2f} to {high:.2f})"
            )
    print(
        f"ms a step or a section; medians and quartiles of {rounds} rounds; "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in SETTINGS:
        work(sys.argv[1])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
