"""Several processes that train one prior together, as torchrun starts them. In a single process nothing here does anything.

Every process holds the whole field; the latents are sharded: process r of W owns (stores and steps) rows r, r + W, ...
The heads of a step are shared out evenly, whoever owns their latents: a step's latents travel, some kilobytes. All draw
the same random numbers, so that the processes together do what one would do alone. What all of them must call is said so.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from avatar_kit.types import InputError

_PATIENCE = timedelta(days=30)  # samples of thousands of heads take hours: they must not time out
_STATED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, if it did.

    Args:
        device: "cpu" or "cuda".

    Yields:
        the device of this process: "cpu", or "cuda:N" where each process has a GPU to itself.

    Raises:
        InputError: the environment is not as torchrun makes it, or a machine has more processes than GPUs.
    """
    if "WORLD_SIZE" not in os.environ:
        yield device
        return
    local, on_machine = _check_environment()
    if device == "cuda":
        gpus = torch.cuda.device_count()
        if on_machine > gpus:
            raise InputError(
                f"{on_machine} processes on a machine with {gpus} GPUs. Use torchrun --nproc-per-node {gpus}, or --device cpu."
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    importlib.import_module("torch.distributed.nn")  # imported with a group there (by optimizers), it keeps its threads past exit
    dist.init_process_group("nccl" if device != "cpu" else "gloo", timeout=_PATIENCE)
    yield device
    dist.destroy_process_group()


def _check_environment() -> tuple[int, int]:
    """Number of this process on its machine, and how many there are on it."""
    missing = [name for name in _STATED if name not in os.environ]
    if missing:
        raise InputError(f"WORLD_SIZE is set, but not {', '.join(missing)}. Start with torchrun, or unset WORLD_SIZE for a single process.")
    words = {name: os.environ[name] for name in _STATED[:4]}
    if not all(word.isdigit() for word in words.values()):
        raise InputError(f"the environment has {words}, where whole numbers are needed. Start with torchrun.")
    rank_, world_, local, on_machine = (int(word) for word in words.values())
    if not (rank_ < world_ and local < on_machine <= world_):
        raise InputError(f"the environment has {words}: a process numbered beyond their count. Start with torchrun.")
    return local, on_machine


def rank() -> int:
    """Number of this process; 0 is the one that writes and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def check_sizes(heads: int, heads_per_step: int) -> None:
    """Whether there is work for all.

    Raises:
        InputError: more processes than heads, or than heads in a step.
    """
    if world() > min(heads, heads_per_step):
        raise InputError(
            f"{world()} processes for {heads} heads, {heads_per_step} in a step: some would have nothing to do. "
            "Start fewer processes, or raise --set prior.heads_per_step=N."
        )


def wait() -> None:
    """Until every process has called this."""
    if world() > 1:
        dist.barrier()


def mine() -> slice:
    """This process's part of anything that all of them have: rows rank, rank + world, ..."""
    return slice(rank(), None, world())


def first_says(yes: bool) -> bool:
    """What process 0 says. All call this: what hangs on a clock must happen in all or none."""
    if world() == 1:
        return yes
    said = torch.tensor(yes, device="cuda" if dist.get_backend() == "nccl" else "cpu", dtype=torch.uint8)
    dist.broadcast(said, 0)
    return bool(said)


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over the processes, in one message. All call this, with the same shapes."""
    if world() == 1 or not tensors:
        return
    packed = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(packed)
    for tensor, part in zip(tensors, packed.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def add_up_gradients(parameters: Iterable[Tensor]) -> None:
    """Sum the gradients of those that are trained. All call this; one that had no head in the step adds zeros."""
    if world() == 1:
        return
    gradients = []
    for parameter in parameters:
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    add_up(gradients)


def assembled(own: Tensor, count: int) -> Tensor:
    """All `count` rows (count, ...) from each process's `own` rows. All call this."""
    if world() == 1:
        return own
    whole = own.new_zeros(count, *own.shape[1:])
    whole[mine()] = own
    dist.all_reduce(whole)
    return whole


def owned(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the `rows` (B,) of the whole this process owns, (B,) bool, and where they lie in its part."""
    here = rows % world() == rank()
    return here, rows[here] // world()


def looked_up(own: Tensor, rows: Tensor) -> Tensor:
    """`rows` (B,) of the whole of which this process holds `own`: a copy (B, ...). All call this."""
    here, at = owned(rows)
    found = own.new_zeros(len(rows), *own.shape[1:])
    found[here] = own[at]
    add_up([found])
    return found
