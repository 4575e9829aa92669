"""Where the processes of a job write what all of them may read: how far each is, and why the job ends."""

import datetime
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from torch._C._distributed_c10d import PrefixStore, Store

from mmaudio.base.processes import Place
from mmaudio.base.pulse import Reading

_RECONNECT = datetime.timedelta(seconds=10)


@dataclass(frozen=True)
class Ending:
    """Why a job ends: the first of its processes that failed, and the exit code that all of them leave with.

    `kind`: it raised an `error`, it is `lost` (killed, or not heard of any more), or `hang`: it says that nobody makes progress.
    """

    kind: str
    rank: int
    why: str
    code: int = 1


class Board:
    """One connection to the store of a process group. Not for two threads: each has its own."""

    def __init__(self, store: Store, rank: int) -> None:
        own = store.clone()  # type: ignore[attr-defined]  # not in the stubs of torch 2.11
        own.set_timeout(_RECONNECT)
        self._store, self._rank = PrefixStore("peers", own), rank

    def meet(self, place: Place, first: Reading, world_size: int, limit: datetime.timedelta) -> list[Place]:
        """Tell where this process is; wait until all have. Returns: the places by rank. Raises: DistStoreError after `limit`."""
        self._store.set(f"reading/{self._rank}", first.to_text())
        self._store.set(f"place/{self._rank}", json.dumps(asdict(place)))
        names = [f"place/{rank}" for rank in range(world_size)]
        self._store.wait(names, limit)
        return [Place(**json.loads(text)) for text in self._store.multi_get(names)]

    def write(self, reading: Reading) -> None:
        """Replace what this process told. When it returns, the others can read it."""
        self._store.set(f"reading/{self._rank}", reading.to_text())
        self._store.check([f"reading/{self._rank}"])  # `set` alone does not wait for the answer

    def read(self, ranks: Iterable[int]) -> dict[int, Reading]:
        """What these processes told last, in one request."""
        wanted = list(ranks)
        texts = self._store.multi_get([f"reading/{rank}" for rank in wanted]) if wanted else []
        return {rank: Reading.from_text(text.decode()) for rank, text in zip(wanted, texts, strict=True)}

    def ending(self) -> Ending | None:
        """Why the job ends, if it does."""
        return Ending(**json.loads(self._store.get("ending"))) if self._store.check(["ending"]) else None

    def claim(self, ending: Ending) -> Ending:
        """Say why the job ends. Returns: the one who said so first, which may be another."""
        return Ending(**json.loads(self._store.compare_set("ending", "", json.dumps(asdict(ending)))))
