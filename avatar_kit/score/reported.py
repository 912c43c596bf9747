"""Errors that papers report, as facts to print beside ours. They are of other data unless ours are of H3DS too."""

from __future__ import annotations

from typing import NamedTuple

SOURCE = "InstantAvatar, tables 3 and 4"


class Reported(NamedTuple):
    """A row: face and head error in mm on H3DS, None where none is stated, and the stated time."""

    method: str
    views: int
    face_mm: float
    head_mm: float | None
    time: str


REPORTED = (
    Reported("Dib et al.", 1, 2.06, None, "1 s"),
    Reported("DECA", 1, 1.74, 22.22, "1 s"),
    Reported("Multi-NeuS", 1, 1.81, 13.92, "1 h"),
    Reported("H3D-Net", 1, 1.97, 14.36, "10 min"),
    Reported("SIRA", 1, 1.39, 14.43, "10 min"),
    Reported("InstantAvatar (the paper)", 1, 1.50, 12.43, "5 s, GPU"),
    Reported("MVF-Net", 3, 1.67, None, "1 s"),
    Reported("DFNRMVS", 3, 1.96, None, "1 s"),
    Reported("H3D-Net", 3, 1.47, 11.13, "20 min"),
    Reported("InstantAvatar (the paper)", 3, 1.39, 9.71, "15 s, GPU"),
    Reported("H3D-Net", 6, 1.24, 6.24, "40 min"),
    Reported("InstantAvatar (the paper)", 6, 1.22, 8.03, "30 s, GPU"),
)
