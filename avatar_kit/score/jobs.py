"""The same work on many things, in several processes of one thread each."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from avatar_kit.types import InputError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_work: Callable[[Any], Any]  # of a worker process


def each(work: Callable[[Item], Answer], items: Sequence[Item], jobs: int = 1) -> Iterator[tuple[int, Answer]]:
    """Number and answer of each of `items`, as they get done: in order in this process, in any order where `jobs` are more than one.

    Args:
        work: with more than one job it must be fit for pickling, and is sent to each process once. What it raises is raised here.
        jobs: processes, started afresh: nothing of this one is theirs.

    Raises:
        InputError: a process was ended from outside.
    """
    if jobs <= 1 or len(items) <= 1:
        for number, item in enumerate(items):
            yield number, work(item)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(min(jobs, len(items)), get_context("spawn"), _start, (pickle.dumps(work),))
    try:
        numbers = {pool.submit(_do, item): number for number, item in enumerate(items)}
        for future in as_completed(numbers):
            yield numbers[future], future.result()
    except BrokenProcessPool as error:
        raise InputError(f"--jobs {jobs}: a process was ended from outside, as happens when memory runs out. Try with fewer.") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start(packed: bytes) -> None:
    """Make this process a worker. The work comes packed, so that the libraries it imports find the number of threads."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupted run ends without a traceback from each process
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    import torch

    torch.set_num_threads(1)
    _work = pickle.loads(packed)


def _do(item: Any) -> Any:
    return _work(item)
