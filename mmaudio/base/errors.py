"""What a user or a file got wrong, in sentences; exit codes."""

import difflib
import errno
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")
EXIT_BUG = 1
EXIT_USER_ERROR = 2  # found before any work; nothing was changed
GRACE_S = 20.0  # how long a process that does not speak leaves the one that does
EXIT_INTERRUPTED = 130  # Ctrl-C, as shells have it
EXIT_REQUEUE = 75  # asked to stop by its scheduler; what was done is saved, and the same command goes on
EXIT_REJECTS = 3  # everything else was done and saved, but some inputs failed
# What a place a user named can do to a write; with a file name, these are told in a sentence and need no traceback.
PLACE_ERRORS = frozenset(
    getattr(errno, name) for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EEXIST", "EISDIR", "ENOTDIR", "ENAMETOOLONG")
)


class UserError(Exception):
    """A mistake the user can mend. Carries one sentence per mistake: what was found, what was expected, what to do."""

    exit_code = EXIT_USER_ERROR

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class RejectsError(UserError):
    """Too many inputs failed for a result to be worth having. What was done is kept, and the rejects are listed."""

    exit_code = EXIT_REJECTS


class Problems:
    """Collects mistakes, so that a user hears of all of them at once."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def check(self, step: Callable[[], T]) -> T | None:
        """Run `step`; keep the sentences of its UserError instead of raising. Returns its value, or None."""
        try:
            return step()
        except UserError as error:
            for sentence in error.sentences:
                self.add(sentence)
            return None

    def raise_any(self) -> None:
        """Raises: UserError with every sentence collected so far, if there is one."""
        if self.sentences:
            raise UserError(*self.sentences)


def nearest(name: str, choices: Iterable[str]) -> str:
    """Say which valid name is closest to a wrong one: " (did you mean 'x'?)", or "" when nothing is close."""
    known = list(choices)
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not found:  # a dotted key whose last part alone is right
        tail = name.rsplit(".", 1)[-1]
        found = [choice for choice in known if choice.rsplit(".", 1)[-1] == tail][:1]
    return f" (did you mean {found[0]!r}?)" if found else ""


def is_told(error: BaseException) -> bool:
    """Whether an error needs no traceback: a user's mistake, Ctrl-C, or a place that cannot be written to."""
    if isinstance(error, OSError):
        return error.errno in PLACE_ERRORS and error.filename is not None
    return isinstance(error, UserError | KeyboardInterrupt)


def exit_code(error: BaseException) -> int:
    """The code to leave with because of an error."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return error.exit_code if isinstance(error, UserError) else EXIT_USER_ERROR if is_told(error) else EXIT_BUG


def sentence_of(error: BaseException) -> str:
    """An error in a line, for where the work goes on without what failed."""
    if isinstance(error, UserError):
        return "; ".join(error.sentences)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def sentences_of(error: BaseException) -> list[str]:
    """What to print for an error: lines for what a user can mend, the traceback of a bug."""
    if isinstance(error, KeyboardInterrupt):
        return ["interrupted; the same command goes on where this one stopped"]
    if isinstance(error, UserError):
        return [f"error: {sentence}" for sentence in error.sentences]
    if isinstance(error, OSError) and is_told(error):
        return [f"error: {error.filename}: {error.strerror}; name another place, or make room"]
    return [] if isinstance(error, SystemExit) else ["".join(traceback.format_exception(error)).rstrip()]


def tell(error: BaseException) -> None:
    """Print what there is to say of an error."""
    sys.stdout.flush()
    for sentence in sentences_of(error):
        print(sentence, file=sys.stderr, flush=True)


def _says_so(speaks: Callable[[], bool]) -> bool:
    """Whether this process speaks; one that cannot tell does."""
    try:
        return speaks()
    except UserError:
        return True


def run_entry_point(main: Callable[[], int | None], speaks: Callable[[], bool] = lambda: True) -> None:
    """Run a script's main and leave the process: 0 or main's code, 2 with one line per mistake, traceback and 1 for bugs.

    Of several processes that find the same mistakes, the one that `speaks` prints them. The others wait for it, since the
    first to leave ends them all; one that is still alive then found something the first did not, and prints it too.
    """
    try:
        code = main()
    except (UserError, KeyboardInterrupt, OSError) as error:
        if not is_told(error):
            raise
        if isinstance(error, UserError) and not _says_so(speaks):
            sys.stdout.flush()
            time.sleep(GRACE_S)
        tell(error)
        raise SystemExit(exit_code(error)) from None
    raise SystemExit(code or 0)


# ---- Some of many, by name

NUM_NAMED, NUM_LISTED = 3, 16


def named(names: Sequence[str]) -> str:
    """`'a', 'b', 'c' and 7 more`."""
    some = ", ".join(repr(name) for name in names[:NUM_NAMED])
    return some + (f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else "")


def listed(names: Sequence[str]) -> str:
    """`a, b, c` and so on, and how many more."""
    more = len(names) - NUM_LISTED
    return ", ".join(names[:NUM_LISTED]) + (f" and {more} more" if more > 0 else "")
