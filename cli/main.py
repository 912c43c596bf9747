"""`avatar-kit`: the group of commands. Heavy imports happen inside the commands, so that --help answers at once."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import gc
import importlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

_COMMANDS = {
    "demo": ("avatar_kit_cli.recon", "demo", "Reconstruct a bundled head: six photos -> avatar and its error in millimetres."),
    "recon": ("avatar_kit_cli.recon", "recon", "Photos of one head, with cameras or without -> mesh and avatar."),
    "eval": ("avatar_kit_cli.eval", "evaluate", "Score a mesh or a run against the truth."),
    "render": ("avatar_kit_cli.render", "render", "Show a head turning: an animation, or its views side by side."),
    "prior": ("avatar_kit_cli.prior", "prior", "Train the head prior, or look inside one."),
    "normals": ("avatar_kit_cli.normals", "normals", "Estimate normals from photos; train the network that does."),
    "data": ("avatar_kit_cli.data", "data", "Make heads; photograph a head."),
    "doctor": ("avatar_kit_cli.doctor", "doctor", "Versions, devices, backends and why one is missing."),
}


_OF_THE_MACHINE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)  # no permission, no room: nothing to trace


class _LazyGroup(click.Group):
    """A group that imports a command's module only to run that command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        return getattr(importlib.import_module(module), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")  # `main` looks for it
@click.version_option(package_name="avatar-kit")
def cli() -> None:
    """Photos in, 3D head out."""


def main(arguments: list[str] | None = None) -> Any:
    """Run a command. Exit codes: 0 done, 2 usage, 3 bad input, 4 a needed backend is missing, 130 interrupted."""
    # Imports leave a million objects that stay to the end: to look through them again and again takes a sixth of the imports' time,
    # and once more at the exit two seconds
    gc.set_threshold(10_000, 10, 10)
    atexit.register(gc.freeze)
    _keep_memory()
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        with _worded_warnings():
            cli.main(args=arguments, standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: nothing unfinished was written.", err=True)
        sys.exit(130)
    except Exception as error:
        code = _exit_code(error)
        if debug or code is None:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(code)


def _keep_memory() -> None:
    """Let glibc keep what is freed: it gives large blocks back to the system at once, and their pages, zeroed anew for each large
    array, are a fifteenth of a reconstruction's time. Other C libraries are left as they are."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt, (trim_threshold, mmap_threshold) = ctypes.CDLL(None).mallopt, (-1, -3)  # of malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**30)


@contextlib.contextmanager
def _worded_warnings() -> Iterator[None]:
    """Warnings in one line each, above a progress bar and without the place in the code that nobody asked for."""

    def show(message: Warning | str, *_: Any) -> None:
        from tqdm import tqdm

        tqdm.write(f"warning: {message}", file=sys.stderr)

    before, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = before


def _exit_code(error: Exception) -> int | None:
    from avatar_kit.backends import BackendMissing
    from avatar_kit.types import InputError

    bad_input = isinstance(error, InputError) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE)
    return 3 if bad_input else 4 if isinstance(error, BackendMissing) else None


if __name__ == "__main__":
    main()
