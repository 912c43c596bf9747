"""Work in several processes: the same answers as in this one, and what goes wrong is said."""

from __future__ import annotations

import functools
import os

import pytest
import torch

from avatar_kit.score.jobs import each
from avatar_kit.types import InputError


def work(number: int, *, kind: str) -> tuple[float, int, int]:
    if number == 3 and kind == "wrong":
        raise InputError("three is not accepted")
    if number == 3 and kind == "killed":
        os._exit(9)
    return float(torch.arange(number + 1).sum()), torch.get_num_threads(), os.getpid()


def test_answers_are_those_of_one_process_and_each_has_one_thread() -> None:
    one = dict(each(functools.partial(work, kind="right"), range(5)))
    two = dict(each(functools.partial(work, kind="right"), range(5), 2))
    assert [two[number][0] for number in range(5)] == [one[number][0] for number in range(5)] == [0, 1, 3, 6, 10]
    assert {threads for _, threads, _ in two.values()} == {1}
    assert os.getpid() not in {process for *_, process in two.values()}
    assert {process for *_, process in one.values()} == {os.getpid()}


@pytest.mark.parametrize(("kind", "words"), [("wrong", "three is not accepted"), ("killed", "--jobs 2.*ended from outside")])
def test_errors_come_back_in_words(kind: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        dict(each(functools.partial(work, kind=kind), range(4), 2))
