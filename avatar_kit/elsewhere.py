"""Work in a Python process of its own: beside libraries that keep Python's lock this one can go on."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")
_AT_ONCE = 2


def elsewhere(work: Callable[..., _Result], *arguments: object) -> Future[_Result]:
    """The result to come of `work`, a function of a module that imports little, since it is imported anew there.

    Where no process can be started, or it ends before its work, the work is done in a thread of this one. What it raises,
    and KeyboardInterrupt where it is interrupted, the result raises.
    """

    def wait() -> _Result:
        try:
            command = [sys.executable, "-m", __name__]
            done = subprocess.run(command, input=pickle.dumps((work, arguments)), capture_output=True, check=False)
        except OSError:
            return work(*arguments)
        if done.returncode == 0:
            return pickle.loads(done.stdout)
        if done.returncode == -signal.SIGINT:  # who interrupts one interrupts both
            raise KeyboardInterrupt
        return work(*arguments)

    return _threads().submit(wait)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="avatar-kit-elsewhere")


def _main() -> None:
    """What the other process does: work from stdin, its result to what was stdout."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no answer
    work, arguments = pickle.load(sys.stdin.buffer)
    with os.fdopen(answer, "wb") as out:
        pickle.dump(work(*arguments), out, protocol=pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    _main()
