"""Whether something can be written at a place, found before the work for it is done."""

import os
from pathlib import Path

from mmaudio.base.errors import UserError


def check_writable(folder: Path) -> None:
    """Raises: UserError where a folder is not there and cannot be made, or cannot be written to."""
    here = folder
    while not os.path.lexists(here):
        here = here.parent
    if here.is_symlink() and not here.exists():
        real = os.path.realpath(here)
        raise UserError(f"nothing can be written to {folder}: {here} is a link to {real}, which is not there; make that folder first")
    if not here.is_dir():
        raise UserError(f"nothing can be written to {folder}: {here} is a file where a folder has to be; name another place")
    if not os.access(here, os.W_OK | os.X_OK):
        raise UserError(f"nothing can be written to {folder}: {here} is read-only for this user; name another place, or have it opened")
