"""Warp, imported and set up once: quiet, and with its compiled kernels cached between runs.

Warp compiles a module of kernels at its first launch (a few seconds on a CPU) and keeps the result in the user's
cache folder, so that only the first run on a machine pays. Tensors are shared with torch, never copied.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
import warp as wp


def _init_quietly() -> None:
    """Start Warp without its native library's line about a missing CUDA driver, which alarms who has no GPU."""
    wp.config.log_level = wp.LOG_ERROR
    wp.config.enable_backward = False  # gradients are written by hand; adjoints would triple the compile time
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        wp.init()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


_init_quietly()

_WORTH_THREADS = 1 << 14  # rows; less is done before a thread has woken

_Result = TypeVar("_Result")
FLOATS = {torch.float32: wp.float32, torch.float64: wp.float64}


def has_cuda() -> bool:
    """Whether Warp can use a CUDA device: it needs a newer driver than torch does."""
    return wp.is_cuda_available()


def device_of(tensor: torch.Tensor) -> str:
    """Warp's name of the device that holds `tensor`: "cpu" or "cuda:0"."""
    return str(wp.device_from_torch(tensor.device))


def launch(kernel: wp.Kernel, count: int, inputs: list, outputs: list | None = None, *, like: torch.Tensor) -> None:
    """Run `count` threads of a kernel where `like` lies; on CUDA in torch's current stream, so that the two keep their order."""
    stream = wp.stream_from_torch(like.device) if like.is_cuda else None
    wp.launch(kernel, dim=count, inputs=inputs, outputs=outputs or [], device=device_of(like), stream=stream)


def in_parts(work: Callable[[slice], None], count: int, device: torch.device) -> None:
    """`work`, which launches a kernel, on all of `count` rows: on a CPU, where Warp runs a kernel on one thread, a part on each of
    torch's threads. The kernel must be loaded and no two of its threads write to one place.
    """
    threads = torch.get_num_threads() if device.type == "cpu" and count >= _WORTH_THREADS else 1
    if threads == 1:
        return work(slice(0, count))
    starts = [count * part // threads for part in range(threads + 1)]
    list(_threads(threads).map(work, map(slice, starts, starts[1:])))


def beside(work: Callable[[], _Result], device: str) -> Future[_Result]:
    """The result of `work` to come: on a CPU from a thread of its own, which pays where either side leaves Python's lock, as Warp does;
    on a GPU it is there at once.
    """
    if device == "cpu":
        return _threads(1).submit(work)
    done: Future[_Result] = Future()
    done.set_result(work())
    return done


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="avatar-kit-warp")


def view(tensor: torch.Tensor, length: int = 0) -> Any:
    """A tensor as an argument of `launch`, its last axis as vectors of that `length`, which must be contiguous. Quicker than
    `wp.from_torch` as it stands, but it does not keep the tensor: that must live until the launch.
    """
    return wp.from_torch(tensor.detach(), dtype=_vector(length, tensor.dtype) if length else None, return_ctype=True)


@functools.cache
def _vector(length: int, dtype: torch.dtype) -> type:
    return wp.types.vector(length=length, dtype=FLOATS[dtype])


def points_array(points: torch.Tensor) -> wp.array:
    """View a contiguous float32 (N, 3) tensor as an array of `wp.vec3`."""
    return wp.from_torch(points.detach().contiguous().float(), dtype=wp.vec3)
