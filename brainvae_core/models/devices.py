"""The device a fit runs on: which, its precision, its threads, and what when it is full."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import torch
import torch.nn.functional as F

PRECISIONS = ("auto", "float32", "tf32", "bfloat16")
GAIN = 1.2  # what bfloat16 must be faster by to be chosen
EMULATED = 0.5  # at less than this speed bfloat16 is emulated, which is ten and more times slower
TIMED = (16, 32, 40, 56)  # images, channels, height and width of the layer that is timed

WARM_UP = 3  # steps before a capture: kernels are chosen and the optimiser's state is made
ACTIVATIONS = 50  # numbers kept per pixel and image in a step (45 to 50 by peak RSS on a CPU)
# What a full device is called where it is not called torch.OutOfMemoryError.
FULL = ("out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED")


class OutOfDeviceMemory(RuntimeError):
    """A device's memory did not hold the models that were to be trained together."""


def pick_device(device: str) -> torch.device:
    """``"auto"`` as CUDA, else MPS, else CPU; anything else as torch reads it.

    Raises
    ------
    ValueError
        There is no such device here.
    """
    here = {"cpu": True}
    here |= {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if here[kind]))
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or not here.get(found.type):
        known = ", ".join(kind for kind, there in here.items() if there)
        raise ValueError(f"device={device!r} is not here; auto, {known} are")
    return found


def pick_precision(precision: str, device: torch.device, begun: str | None = None) -> str:
    """The precision of a fit's layers.

    Parameters
    ----------
    precision : str
        The configuration's. ``"auto"`` is bfloat16 on a GPU that has it and on a processor that
        is faster in it, else float32; anything else is as it is.
    device : torch.device
    begun : str, optional
        The precision in which the fit was begun: it goes on in that, but for a bfloat16 of
        ``"auto"`` that is only emulated here; then in float32, which is told on stderr.
    """
    if precision != "auto":
        return precision
    if begun == "bfloat16" and bfloat16_gain(device) < EMULATED:
        print(
            f"begun in bfloat16, which this {device.type} has not: going on in float32 "
            '(precision="bfloat16" would keep it, emulated and slow)',
            file=sys.stderr,
        )
        return "float32"
    return begun or ("bfloat16" if bfloat16_gain(device) >= GAIN else "float32")


@cache
def bfloat16_gain(device: torch.device) -> float:
    """How many times faster layers are in bfloat16 than in float32.

    On a CPU as measured in a few milliseconds: the time of a convolution with its gradients, best
    of five. Elsewhere nothing is timed: infinite on a GPU that has bfloat16, else 0.
    """
    if device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return float("inf") if has_it else 0.0
    if device.type != "cpu":
        return 0.0
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        signal, weight = (
            torch.ones(shape, dtype=dtype).to(memory_format=torch.channels_last)
            for shape in (TIMED, (TIMED[1], TIMED[1], 4, 4))
        )
        signal.requires_grad_(), weight.requires_grad_()
        gradient, taken = torch.ones_like(F.conv2d(signal, weight, stride=2, padding=1)), []
        for _ in range(6):  # the first chooses a kernel
            start = time.perf_counter()
            F.conv2d(signal, weight, stride=2, padding=1).backward(gradient)
            taken.append(time.perf_counter() - start)
        seconds.append(min(taken[1:]))
    return seconds[0] / seconds[1]


def captured(step: Callable[[], None], stream: torch.cuda.Stream) -> Callable[[], None]:
    """A step that was run before, as one CUDA graph: its ~120 kernels cost one launch."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize(stream.device)
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph.replay


def on_stream(stream):
    """The context in which work goes to a CUDA stream; without one, none."""
    return nullcontext() if stream is None else torch.cuda.stream(stream)


@contextmanager
def shared_threads(n: int) -> Iterator[None]:
    """The CPU's threads divided among ``n`` models."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // n))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def explained_when_full(n_models: int, batch_size: int, image_shape, device) -> Iterator[None]:
    """Tell an allocation that failed in one line: what was needed, and what lowers it.

    Raises
    ------
    OutOfDeviceMemory
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_full(error):
            raise
        height, width = image_shape
        needed = n_models * batch_size * height * width * ACTIVATIONS * 4 / 2**30
        lower = "batch_size" if n_models == 1 else "together (or batch_size)"
        raise OutOfDeviceMemory(
            f"{device} is out of memory: {n_models} model{'s' * (n_models > 1)} at once with "
            f"batches of {batch_size} × {height} × {width} need about {needed:.1f} GiB; "
            f"lower {lower}"
        ) from error


def free_memory() -> None:
    """Give back what models that are gone held of the device."""
    gc.collect()  # threads and their errors refer to one another
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def keep_freed_memory() -> None:
    """Ask glibc to keep freed activations instead of returning them to the kernel.

    Otherwise every step faults in hundreds of megabytes anew: two to four times slower on a CPU.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
            libc.mallopt(trim_threshold, 2**31 - 1)
            libc.mallopt(mmap_max, 0)


def _is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is of memory: a broken capture hides its cause."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError) or any(t in str(error) for t in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
