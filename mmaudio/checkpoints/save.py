"""Written whole, in the background, the one before kept."""

import dataclasses
import errno
import json
import logging
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.load import load_checkpoint, read_record
from mmaudio.checkpoints.run_files import CHECKSUMS, RunFiles, RunState, WeightsRecord, checksums_beside, record_beside
from mmaudio.files.atomic import atomic_path, parse_json, scratch_folder, sync_file, write_json, write_text
from mmaudio.files.checksums import content_id
from mmaudio.files.ownership import aside_path, at_end_of_links, foreign

log = logging.getLogger(__name__)


# ---- Saving beside training: copies in host memory, and a thread that writes them

_Kind = tuple[torch.Size, torch.dtype, bool]  # of a buffer: the last is whether it is pinned


@dataclasses.dataclass
class _Buffer:
    memory: Tensor
    lent: "weakref.ref[Tensor] | None" = None

    def is_free(self) -> bool:
        return self.lent is None or self.lent() is None


class HostCopies:
    """Copies nests of tensors into host memory that is used again and again.

    A copy's memory is free for another one as soon as nobody holds the copy any more, so copies that are being written are safe.
    """

    def __init__(self) -> None:
        self._buffers: dict[_Kind, list[_Buffer]] = {}

    @torch.no_grad()
    def copy(self, live: Any, whole: Callable[[Tensor], Tensor] | None = None, *, keeps: bool = True) -> Any:
        """Copy every tensor of a nest of dicts, lists, tuples and dataclasses. Collective if `full_tensor` is.

        Args:
            whole: what to do to each tensor before it is copied, such as gathering it from all processes.
            keeps: whether this process wants the copy; otherwise it only takes part in `full_tensor`.
        Returns: an equal nest on the CPU, which nothing done to the live tensors afterwards changes; None unless it `keeps`. From
            CUDA it comes by pinned memory, and this waits for the device once.
        """
        devices: set[torch.device] = set()

        def take(tensor: Tensor) -> Tensor | None:
            source = (whole(tensor) if whole else tensor).detach()
            if not keeps:
                return None
            if source.is_cuda:
                devices.add(source.device)
            copied = self._borrow(source)
            copied.copy_(source, non_blocking=True)
            return copied

        result = _mapped(live, take)
        for device in devices:
            torch.cuda.current_stream(device).synchronize()
        return result if keeps else None

    def _borrow(self, source: Tensor) -> Tensor:
        kind = (source.shape, source.dtype, source.is_cuda)
        known = self._buffers.setdefault(kind, [])
        buffer = next((each for each in known if each.is_free()), None)
        if buffer is None:
            buffer = _Buffer(torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda))
            known.append(buffer)
        lent = buffer.memory.detach()  # a tensor of its own on the same memory: when it is gone, so is the copy
        buffer.lent = weakref.ref(lent)
        return lent

    @property
    def num_bytes(self) -> int:
        """Of all buffers, in use or not."""
        return sum(each.memory.nbytes for known in self._buffers.values() for each in known)


def _mapped(live: Any, take: Callable[[Tensor], Any]) -> Any:
    if isinstance(live, Tensor):
        return take(live)
    if isinstance(live, Mapping):
        copied: dict[Any, Any] = {key: _mapped(value, take) for key, value in live.items()}
        return type(live)(copied)  # type: ignore[call-arg] # schedulers hold a Counter
    if isinstance(live, list | tuple):
        return type(live)(_mapped(value, take) for value in live)
    if dataclasses.is_dataclass(live) and not isinstance(live, type):
        return dataclasses.replace(live, **{each.name: _mapped(getattr(live, each.name), take) for each in dataclasses.fields(live)})
    return live


class BackgroundWriter:
    """Writes in a thread of its own, one thing at a time, in order. A context, at whose end everything is written.

    What is written must do no arithmetic on tensors: in a new thread that would start another pool of threads.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, write: Callable[[], Any]) -> None:
        """Begin to write; waits first for what is under way. Raises: what that raised, and then does not begin."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(write,), name="checkpoint writer")  # no daemon: an exit waits for it
        self._thread.start()

    def _run(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except BaseException as error:  # the main thread's to handle
            self._error = error

    def wait(self) -> None:
        """Return when nothing is under way. Raises: what the last write raised, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.look()

    def look(self) -> None:
        """Wait for nothing. Raises: what the last write raised, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.wait()


_SHIFTED = "was_shadow"  # in the record of a checkpoint that `keep` may remove


def is_own(path: Path, exp_id: str) -> bool:
    """Whether a file is this run's, as its record proves; those of the published system, and of other runs, have none, or another."""
    try:
        record = read_record(path)
    except UserError:
        return False
    return record is not None and record.exp_id == exp_id


def check_own(path: Path, exp_id: str, advice: str = "name another file") -> None:
    """Raises: UserError where something stands at `path`, or at the place of its record, that is not this run's."""
    if path.exists() and not is_own(path, exp_id):
        raise foreign(path, advice)
    if record_beside(path).exists() and not _is_own_record(path, exp_id):
        raise foreign(record_beside(path), advice)


def _is_own_record(path: Path, exp_id: str) -> bool:
    """Whether what lies at the place of a file's record is one of this run, be its file there or not."""
    try:
        content = parse_json(record_beside(path).read_text(encoding="utf-8"))
        return WeightsRecord.from_plain(content).exp_id == exp_id
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make_way(path: Path, exp_id: str) -> None:
    """Give what is not this run's, but stands where it writes, a name of its own, and say so: a checkpoint that of its step."""
    record, kept = record_beside(path), None
    if path.exists() and not is_own(path, exp_id):
        kept = _name_of_its_own(path, exp_id)
        os.rename(path, kept)  # of a link, the link: what it leads to is somebody's own
        log.warning("%s was not made by this program for this run and is now %s", path, kept)
    if record.exists() and not _is_own_record(path, exp_id):
        os.rename(record, record_beside(kept) if kept else aside_path(record))


def _name_of_its_own(path: Path, exp_id: str) -> Path:
    if path.name.startswith(f"{exp_id}_ckpt_"):
        with suppress(UserError):  # it is no checkpoint
            found = path.with_name(f"{exp_id}_ckpt_{load_checkpoint(path).steps_done}.pth")
            if not os.path.lexists(found) and not os.path.lexists(record_beside(found)):
                return found
    return aside_path(path)


def save_file(path: Path, content: Any, record: WeightsRecord, shadow: Path | None = None) -> None:
    """Write `content` to `path` and its record beside it; what was there before becomes `shadow`.

    What stands under either name and is not this run's is moved to a name of its own first.

    A kill at any moment leaves a complete file under one of the two names, and no file of ours without a record. Records
    come first: after a kill between the two, the older file has the record of the newer one, of another step.
    """
    for place in (path,) if shadow is None else (path, shadow):
        _make_way(place, record.exp_id)
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file:  # given a path, torch would put the temporary name into the file, and no two were equal
            torch.save(content, file)
        sync_file(temporary)  # now, so that `path` is without a file for a moment only
        if shadow is not None and path.exists():
            _move(path, shadow)
        write_json(record_beside(path), dataclasses.asdict(record) | {CHECKSUMS: checksums_beside(temporary, path)})


def _move(path: Path, target: Path, note: Mapping[str, Any] | None = None) -> None:
    """Rename a file with its record, to which a `note` is added."""
    if record_beside(path).exists():
        text = record_beside(path).read_text(encoding="utf-8")
        write_text(record_beside(target), _moved_record(text, target, note or {}))
        _rename(path, target)
    else:  # a file of the published system: the one before it had a record, which would now be wrong
        _rename(path, target)
        record_beside(target).unlink(missing_ok=True)


def _moved_record(text: str, target: Path, note: Mapping[str, Any]) -> str:
    """A record with a note, and for the moment before its file is moved, with the checksum of the file that it will lie beside."""
    try:
        content = parse_json(text)
    except ValueError:
        return text
    if not isinstance(content, dict):
        return text
    if isinstance(content.get(CHECKSUMS), list) and target.is_file():
        note = {**note, CHECKSUMS: [*content[CHECKSUMS], content_id(target)]}
    return json.dumps({**content, **note}, indent=2) + "\n" if note else text


def _rename(path: Path, target: Path) -> None:
    """Rename a file, in place of another one; links to either stay links, and a file that was reached by one is reached by one."""
    real, end = at_end_of_links(path), at_end_of_links(target)
    if path.is_symlink() and not target.is_symlink():
        end = real.with_name(target.name)
        end = aside_path(end) if os.path.lexists(end) else end
    try:
        os.replace(real, end)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_path(end) as temporary:  # on another disk
            shutil.copyfile(real, temporary)
        real.unlink()
    if path.is_symlink() and not target.is_symlink():
        with scratch_folder(target) as scratch:
            (scratch / target.name).symlink_to(end)
            os.replace(scratch / target.name, target)


def save_checkpoint(
    files: RunFiles,
    state: RunState,
    record: WeightsRecord,
    *,
    copy: bool = False,
    keep: int = 2,
    never_remove: Collection[int] = (),
) -> Path:
    """Write a training checkpoint as `_ckpt_last.pth`, or under its step's own name if it is a `copy`.

    Args:
        keep: how many are kept: the last, its shadow, and those before under their steps' names. Older ones are removed, but
            only those that got such a name here.
        never_remove: steps whose checkpoints stay.
    """
    if copy:
        path = files.checkpoint_copy(state.steps_done)
        save_file(path, state.entries(), record)
        return path
    if keep > 2 and files.checkpoint_last.exists():
        _shift_shadow(files, never_remove)
    save_file(files.checkpoint_last, state.entries(), record, files.checkpoint_shadow if keep > 1 else None)
    if keep == 1:
        _remove(files.checkpoint_shadow, record.exp_id)
    for path in _shifted(files)[: -(keep - 2) if keep > 2 else None]:
        _remove(path, record.exp_id)
    return files.checkpoint_last


def _shift_shadow(files: RunFiles, never_remove: Collection[int]) -> None:
    """Give the shadow a name of its own, since the next one is about to take its place."""
    shadow = files.checkpoint_shadow
    if not shadow.exists():
        return
    try:
        steps_done = load_checkpoint(shadow).steps_done
    except UserError:  # damaged, or none of ours
        return
    target = files.checkpoint_copy(steps_done)
    if not target.exists():
        _move(shadow, target, None if steps_done in never_remove else {_SHIFTED: True})


def _shifted(files: RunFiles) -> list[Path]:
    """The checkpoints that were shadows once, oldest first."""
    own = [path for path in files.checkpoint_copies() if is_own(path, files.exp_id)]  # others are not ours to remove
    return [path for path in own if parse_json(record_beside(path).read_text(encoding="utf-8")).get(_SHIFTED)]


def _remove(path: Path, exp_id: str) -> None:
    """Remove a checkpoint with its record, unless it is not this run's."""
    if is_own(path, exp_id):
        for each in (path, record_beside(path)):
            each.unlink(missing_ok=True)


def save_weights(files: RunFiles, weights: dict[str, Tensor], record: WeightsRecord, *, copy: bool = False) -> Path:
    """Write the network's weights as `_last.pth`, or under their step's own name if they are a `copy`."""
    path = files.weights_copy(record.step) if copy else files.weights_last
    save_file(path, weights, record, None if copy else files.weights_shadow)
    return path
