"""Small stores for tests: half a second of sound, every width as it is."""

import torch

from mmaudio.base.specs import AudioSpec
from mmaudio.store import Block, Store, record_path, table_path, write_store
from mmaudio.store.format import TEXT_SHAPE, columns

SPEC = AudioSpec("16k", 0.64)
# Ids and captions that table readers like to turn into something else.
ODD_TEXTS = [
    *("00008004", "1e5", "None", "NA", "null", "nan", "", "0x10", "-0", "True", "\\N", "#comment"),
    *('"leading quote', 'a "b" c', '"all of it"', "tab\there", "line\nbreak", "cr\r\nlf", "trailing\r", " spaces "),
    *("\N{DOG FACE} woof", "\u2028 separator"),
]


def features(kind, num_rows, spec=SPEC, seed=0):
    """Columns of `num_rows` rows: standard normals."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(num_rows, *shape, generator=generator) for name, shape in columns(kind, spec).items()}


def text_of(caption, scale=1.0):
    """A text feature that is a function of the caption and exact in bfloat16."""
    generator = torch.Generator().manual_seed(sum(caption.encode()) + len(caption))
    return torch.randint(-8, 8, TEXT_SHAPE, generator=generator).float() * scale


def blocks_of(index, values, size=3):
    """Cut rows into blocks of `size`."""
    for start in range(0, len(index), size):
        rows = index[start : start + size]
        captions = [caption for _, caption in rows]
        cut = {name: column[start : start + size] for name, column in values.items()}
        yield Block([row_id for row_id, _ in rows], captions, cut, {caption: text_of(caption) for caption in captions})


def index_of(num_rows, prefix="row"):
    """Ids of their own and captions of which every third repeats."""
    return [(f"{prefix}{row}", f"caption {row % 3}") for row in range(num_rows)]


def make_store(folder, name, kind="video", index=None, values=None, **options):
    """Write a store and open it."""
    index = index_of(5) if index is None else index
    settings = {"layout": "compact", "spec": SPEC, "backend": "lite", "null_text": text_of(""), **options}
    values = features(kind, len(index), settings["spec"]) if values is None else values
    write_store(folder, name, kind=kind, index=index, blocks=blocks_of(index, values), **settings)
    return open_store(folder, name)


def open_store(folder, name):
    return Store.open(table_path(folder / name), folder / name)


def forget_record(folder, name):
    """Make a store look like the published system's."""
    record_path(folder / name).unlink()
