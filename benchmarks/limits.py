"""What a machine can do at best, measured: bytes copied and numbers multiplied a second.

python benchmarks/limits.py [--device auto]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from measure import heading, line, part, spread
from torch import nn

from brainvae_core.models.devices import pick_device
from brainvae_core.models.vae import BetaVAE

TOUCHED = 5  # times a step reads or writes each activation: forward 2, backward 3
BYTES = {"float32": 4, "bfloat16": 2}


def seconds(function, device: torch.device, at_least: float = 0.3, rounds: int = 5) -> list[float]:
    """Seconds of one call, of rounds that last long enough for the clock."""

    def timed(n):
        wait(device)
        start = time.perf_counter()
        for _ in range(n):
            function()
        wait(device)
        return time.perf_counter() - start

    timed(3)
    n = max(1, int(at_least / max(timed(3) / 3, 1e-7)))
    return [timed(n) / n for _ in range(rounds)]


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_rates(device: torch.device) -> list[float]:
    """Bytes a second of a large copy on the device, read and written bytes both counted."""
    n_bytes = 2**30 if device.type == "cuda" else 2**27
    source = torch.ones(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return [2 * n_bytes / s for s in seconds(lambda: target.copy_(source), device)]


def matrix_rates(device: torch.device, dtype: torch.dtype) -> list[float]:
    """Floating-point operations a second of a product of two large square matrices."""
    size = 8192 if device.type == "cuda" else 512
    left, right = (torch.randn((size, size), device=device).to(dtype) for _ in range(2))
    return [2 * size**3 / s for s in seconds(lambda: left @ right, device)]


@torch.no_grad()
def activations(image_shape: tuple[int, int]) -> int:
    """Numbers that the network's ReLUs give for one image."""
    model, counted = BetaVAE(8, image_shape), []
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda layer, given, found: counted.append(found.numel()))
    mean, _ = model.posterior_parameters(torch.zeros((1, *image_shape)))
    model.logits(mean)
    return sum(counted)


def memory_floor(image_shape, batch_size: int, precision: str, copy_rate: float) -> float:
    """Seconds of a step that only moved its activations, each touched five times."""
    moved = TOUCHED * activations(image_shape) * batch_size * BYTES[precision]
    return moved / copy_rate


def measure_limits(device: torch.device) -> float:
    """A line a limit; gives the median copy rate in bytes a second."""
    rates = copy_rates(device)
    line("copy on the device", spread([r / 1e9 for r in rates], "GB/s"), f"{len(rates)} rounds")
    for dtype in (torch.float32, torch.bfloat16):
        with part(f"matrix product in {dtype}"):
            found = [r / 1e12 for r in matrix_rates(device, dtype)]
            what = f"matrix product in {str(dtype).removeprefix('torch.')}"
            line(what, spread(found, "TFLOP/s"), f"{len(found)} rounds")
    if device.type == "cuda":
        with part("matrix product in TF32"):
            torch.backends.cuda.matmul.allow_tf32 = True
            found = [r / 1e12 for r in matrix_rates(device, torch.float32)]
            torch.backends.cuda.matmul.allow_tf32 = False
            line("matrix product in TF32", spread(found, "TFLOP/s"), f"{len(found)} rounds")
    return statistics.median(rates)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--device", default="auto")
    chosen = pick_device(options.parse_args().device)
    heading("Limits", chosen)
    measure_limits(chosen)
