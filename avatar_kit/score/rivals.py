"""Other mesh makers in the tables: anything that a command line can run on a scene folder."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avatar_kit.mesh.files import read_mesh
from avatar_kit.types import InputError, Mesh

_TAIL = 400  # characters of what a command said that an error repeats


@dataclass(frozen=True)
class Rival:
    """A method and its command.

    Attributes:
        command: with {scene} (the folder), {views} (numbers of the photos, with commas between) and {out} (the mesh to write, .ply,
            in the scene's world frame and unit).
    """

    name: str
    command: str

    @classmethod
    def parse(cls, text: str) -> Rival:
        """NAME=COMMAND.

        Raises:
            ValueError: no name, or a command without {scene} or {out}.
        """
        name, equals, command = text.partition("=")
        if not equals or not name.strip() or "{scene}" not in command or "{out}" not in command:
            raise ValueError(f"--rival {text}: give NAME=COMMAND, with {{scene}}, {{views}} and {{out}} where the command needs them.")
        return cls(name.strip(), command.strip())

    def mesh(self, scene: Path, view_ids: Sequence[int]) -> tuple[Mesh, float]:
        """The mesh that the command makes of a scene, and its seconds.

        Raises:
            InputError: the command failed or wrote no mesh that can be read.
        """
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "mesh.ply"
            words = [word.format(scene=scene.resolve(), views=",".join(map(str, view_ids)), out=out) for word in shlex.split(self.command)]
            started = time.perf_counter()
            try:
                done = subprocess.run(words, capture_output=True, text=True, check=False)
            except OSError as error:
                raise InputError(f"{self.name}: {words[0]} cannot be run ({error}).") from error
            seconds = time.perf_counter() - started
            if done.returncode != 0 or not out.is_file():
                said = (done.stderr or done.stdout).strip()[-_TAIL:]
                raise InputError(
                    f"{self.name}: ended with {done.returncode} on {scene.name} and {'a' if out.is_file() else 'no'} mesh. {said}"
                )
            try:
                return read_mesh(out), seconds
            except InputError as error:
                raise InputError(f"{self.name}: {scene.name}, {error}") from error
