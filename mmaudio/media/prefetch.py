"""Reading files ahead in threads, in order, with a bounded number in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mmaudio.media.audio import MediaError

Item = TypeVar("Item")
Media = TypeVar("Media")


def prefetch_files(read: Callable[[Item], Media], items: Iterable[Item], num_workers: int) -> Iterator[tuple[Item, Media | MediaError]]:
    """Yield each item with what `read` made of it, or with the MediaError it raised; other errors are raised here.

    At most one item more than there are threads is read or waiting at any time.
    """

    def taken(item: Item, future: "Future[Media]") -> tuple[Item, Media | MediaError]:
        try:
            return item, future.result()
        except MediaError as error:
            return item, error

    with ThreadPoolExecutor(num_workers) as pool:
        waiting: deque[tuple[Item, Future[Media]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) > num_workers:
                yield taken(*waiting.popleft())
        while waiting:
            yield taken(*waiting.popleft())
