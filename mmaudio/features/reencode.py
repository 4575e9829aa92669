"""Rows of a store, encoded again from the media and captions that their table names."""

from collections.abc import Iterator, Sequence

from mmaudio.features.backend import Backend
from mmaudio.features.encoding import encode_media
from mmaudio.features.inputs import Inputs
from mmaudio.features.reading import Media, ReadingRules, file_reader
from mmaudio.media.ahead import read_ahead
from mmaudio.media.audio import MediaError
from mmaudio.store.reader import Store
from mmaudio.store.sample import Encoded
from mmaudio.store.schema import TEXT


def encode_rows(
    store: Store, rows: Sequence[int], inputs: Inputs, backend: Backend, rules: ReadingRules, num_workers: int = 1
) -> Iterator[Encoded]:
    """Each row in order, one encoded at a time while threads read ahead: media by the row's id, text by its caption.

    Args:
        inputs: where the media are; those that cannot be found or read are said to be unreadable, and nothing is raised.
        rules: how the store's media were read.
    """
    number_of = {item.id: number for number, item in enumerate(inputs.items)}
    reason_of = {reject.id: reject.reason for reject in inputs.rejects}
    read_file = file_reader(inputs, backend.spec, rules)

    def read(row: int) -> Media:
        number = number_of.get(store.ids[row])
        if number is None:
            raise MediaError(reason_of.get(store.ids[row], "no table lists this id"))
        (media,) = read_file([number])
        if isinstance(media, MediaError):
            raise media
        return media

    for row, media in read_ahead(read, rows, num_workers):
        text = {TEXT: backend.encode_text([store.captions[row]])[0].cpu()}
        if isinstance(media, MediaError):
            yield Encoded(row, text, str(media))
        else:
            yield Encoded(row, encode_media(backend, [media])[0] | text)
