"""Making pairs beside the training: worker processes, each going through heads of its own."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from avatar_kit.normals.pool import PackedPair, PairLike, pack

_QUEUE = 24  # pairs on their way; a worker that is ahead waits


class Stream(Protocol):
    """Pairs by number, the same for the same number."""

    def pair(self, index: int) -> PairLike: ...


class StreamRequest(Protocol):
    """What a worker process needs to open a stream of its own; can be pickled."""

    @property
    def pairs_per_head(self) -> int: ...
    def open(self, size: int) -> Stream: ...


@dataclass(frozen=True)
class PairStreamRequest:
    """The arguments of `avatar_kit.normals.pairs.PairStream`."""

    seed: int
    sources: tuple[str, ...] = ("anny",)
    makehuman_hair: Path | None = None
    skins: Path | None = None
    without: tuple[str, ...] = ()

    @property
    def pairs_per_head(self) -> int:
        """Consecutive pairs that share a head."""
        from avatar_kit.normals import pairs

        return pairs.PAIRS_PER_HEAD

    def open(self, size: int) -> Stream:
        """The stream at a size."""
        from avatar_kit.normals.pairs import PairStream

        return PairStream(
            seed=self.seed, size=size, sources=self.sources, makehuman_hair=self.makehuman_hair, skins=self.skins, without=self.without
        )


def indices(start: int, pairs_per_head: int, *, worker: int, workers: int) -> Iterator[int]:
    """Numbers of the pairs that one of `workers` makes: whole heads, one of each `workers` from the head after `start` on, another one
    each time: heads come from their sources in turn, and some sources take longer than others."""
    first = -(-start // pairs_per_head)
    for turn in itertools.count():
        head = first + turn * workers + (worker + turn) % workers
        yield from range(head * pairs_per_head, (head + 1) * pairs_per_head)


class PairWorkers:
    """Processes that make pairs without end, at the size that was asked last.

    Use as a context: leaving it ends them.
    """

    def __init__(self, request: StreamRequest, *, size: int, start: int, workers: int) -> None:
        context = multiprocessing.get_context("spawn")  # torch and Warp do not survive a fork
        self._size = context.Value("i", size)
        self._queue = context.Queue(_QUEUE)
        self._processes = [
            context.Process(target=_work, args=(request, start, worker, workers, self._size, self._queue), daemon=True)
            for worker in range(workers)
        ]

    def __enter__(self) -> PairWorkers:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._queue.close()
        self._queue.cancel_join_thread()

    def ask(self, size: int) -> None:
        """Make pairs of this size from the next one on."""
        self._size.value = size

    def take(self, *, wait: bool) -> list[tuple[int, PackedPair]]:
        """Pairs that have arrived, with their numbers; with `wait`, the first may take 2 s, and there may be none even then.

        Raises:
            RuntimeError: a worker failed; its error is in the message.
        """
        arrived: list[tuple[int, PackedPair]] = []
        with contextlib.suppress(queue.Empty):
            while len(arrived) < _QUEUE:
                item = self._queue.get(timeout=2.0) if wait and not arrived else self._queue.get_nowait()
                if isinstance(item, str):
                    raise RuntimeError(f"A worker that makes pairs failed:\n{item}")
                arrived.append(item)
        if not all(process.is_alive() for process in self._processes):
            with contextlib.suppress(queue.Empty):
                while not isinstance(item := self._queue.get(timeout=1.0), str):
                    arrived.append(item)
                raise RuntimeError(f"A worker that makes pairs failed:\n{item}")
            raise RuntimeError("A worker that makes pairs was killed. Was there memory enough? Go on with --resume.")
        return arrived


def _put(results, item: tuple[int, PackedPair]) -> None:
    """Hand a pair over; end the process where the trainer that should take it was killed."""
    trainer = multiprocessing.parent_process()
    while True:
        try:
            return results.put(item, timeout=5.0)
        except queue.Full:
            if trainer is not None and not trainer.is_alive():
                raise SystemExit(1) from None


def _work(request: StreamRequest, start: int, worker: int, workers: int, size, results) -> None:
    import traceback

    import torch

    torch.set_num_threads(1)
    streams: dict[int, Stream] = {}
    try:
        for index in indices(start, request.pairs_per_head, worker=worker, workers=workers):
            wanted = size.value
            if wanted not in streams:
                streams.clear()
                streams[wanted] = request.open(wanted)
            _put(results, (index, pack(streams[wanted].pair(index))))
    except Exception:  # goes to the trainer in words: a silent end would leave it waiting
        results.put(traceback.format_exc())
        results.close()
        results.join_thread()
        raise SystemExit(1) from None
