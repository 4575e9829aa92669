"""Whether a store is what it says, every number read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.logs import progress
from mmaudio.base.specs import AudioSpec
from mmaudio.files.tensor_files import finite_rows
from mmaudio.store import format as schema
from mmaudio.store.compare import Clash, TextsOfCaptions, clashing_places, limits_of, relative_error
from mmaudio.store.format import NULL_TEXT, TEXT, TEXT_ROW, TEXT_TABLE, StoreRecord
from mmaudio.store.reader import Store
from mmaudio.store.statistics import Moments

# ---- One pass over all numbers of a store, block by block, in bounded memory

BLOCK_BYTES = 1 << 25


@dataclass
class Scan:
    """What one pass over the columns finds."""

    not_finite: dict[str, list[int]] = field(default_factory=dict)  # column → places in it
    zeros: dict[str, list[int]] = field(default_factory=dict)  # column → places in it with a token that is zeros
    negative: list[int] = field(default_factory=list)  # rows whose std is below zero somewhere
    moments: Moments = field(default_factory=Moments)
    clashes: list[Clash] = field(default_factory=list)  # published layout: equal captions with unequal texts


def blocks_of(store: Store, columns: Sequence[str]) -> list[tuple[str, int, int]]:
    """(column, start, stop) of blocks that together are these columns, each of at most BLOCK_BYTES or one row."""
    blocks = []
    for name in columns:
        shape, dtype = store.column_shapes[name], store.column_dtypes[name]
        step = max(1, BLOCK_BYTES // (int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize))
        blocks += [(name, start, min(start + step, shape[0])) for start in range(0, shape[0], step)]
    return blocks


def scan_store(store: Store, *, with_texts: bool) -> Scan:
    """Read every number, showing progress; `with_texts` also holds equal captions to equal text features (published layout)."""
    scan = Scan()
    texts = TextsOfCaptions(store.captions, lambda row: store.read_block(TEXT, row, row + 1)[0])
    blocks = blocks_of(store, [name for name in store.column_shapes if name not in (TEXT_ROW, NULL_TEXT)])
    for name, start, values in progress(_read(store, blocks), len(blocks), "verify"):
        scan.not_finite.setdefault(name, []).extend((start + torch.nonzero(~finite_rows(values))[:, 0]).tolist())
        scan.zeros.setdefault(name, []).extend((start + torch.nonzero(zero_token_rows(values))[:, 0]).tolist())
        if name == "mean":
            scan.moments.add(values)
        elif name == "std":
            scan.negative += (start + torch.nonzero(values.flatten(1).amin(1) < 0)[:, 0]).tolist()
        elif name == TEXT and with_texts:
            found = (texts.clash(row, text) for row, text in enumerate(values, start))
            scan.clashes += [clash for clash in found if clash is not None]
    return scan


def zero_token_rows(values: Tensor) -> Tensor:
    """Which rows have a token that is zeros throughout, (rows,) bool, for (rows, tokens, width). Costs next to nothing where none has."""
    found = torch.zeros(len(values), dtype=torch.bool)
    rows, tokens = torch.nonzero(values[..., 0] == 0, as_tuple=True)
    found[rows[~values[rows, tokens].any(-1)]] = True
    return found


def _read(store: Store, blocks: Sequence[tuple[str, int, int]]) -> Iterator[tuple[str, int, Tensor]]:
    for name, start, stop in blocks:
        yield name, start, store.read_block(name, start, stop)


# ---- The checks

NUM_NAMED = 3
STATISTICS_ERROR = 1e-6  # of a mean or standard deviation, relative to the larger of the two


@dataclass(frozen=True)
class Check:
    """One thing looked at: what holds, and a sentence for each problem; `rows` are findings about single rows, as JSON has them."""

    name: str
    said: str
    problems: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class KnownEncoders:
    """What is known of the encoders that a store may be of.

    `null_texts` gives their features of the empty string, (77, 1024), by what messages call the encoder, or is None if the null text is
    not to be compared; it is of one of these if they `are_all`. `may_have_zeros` tells by the clip_features of a row, (tokens, width),
    whether its sync_features may have tokens of zeros.
    """

    null_texts: Callable[[], Mapping[str, Tensor]] | None = None
    are_all: bool = False
    may_have_zeros: Callable[[Tensor], bool] = lambda _: False


def verify_store(
    tsv: Path, memmap_dir: Path, encoders_of: Callable[[Store], KnownEncoders] = lambda _: KnownEncoders()
) -> tuple[Store | None, list[Check]]:
    """Check everything that the store itself can tell. The store is None where its files do not let rows be read.

    Args:
        encoders_of: what is known of the encoders of a store, asked for where it can be read.
    Raises: UserError where there is no store, or no table.
    """
    if not memmap_dir.is_dir():
        raise UserError(f"no store at {memmap_dir}")
    if not tsv.is_file():
        raise UserError(f"store {memmap_dir} has no table {tsv}; give the one written with it: --tsv TABLE")
    try:
        store = Store.open_unchecked(tsv, memmap_dir)
    except UserError as error:
        return None, [Check("files", "the files do not belong together, and no row was looked at", error.sentences)]
    wrong = store.contradictions(tsv)
    encoders, found = encoders_of(store), scan_store(store, with_texts="texts" not in wrong)
    checks = [_check_files(store), _check_record(store, wrong.get("record")), _check_ids(store), _check_hash(store, wrong.get("rows"))]
    checks += [_check_captions(store, wrong.get("texts"), found), _check_numbers(store, found, encoders), _check_std(store, found)]
    return store, [*checks, _check_statistics(store, found), _check_null_text(store, encoders)]


def name_rows(store: Store, rows: Sequence[int]) -> str:
    """`row 3 (id 'x'), row 4 (id 'y') and 7 more`."""
    named = ", ".join(f"row {row} (id {store.ids[row]!r})" for row in rows[:NUM_NAMED])
    return named + (f" and {len(rows) - NUM_NAMED} more" if len(rows) > NUM_NAMED else "")


def _check_files(store: Store) -> Check:
    problems, total = [], 0
    for name, shape in store.column_shapes.items():
        found, want = (store.memmap_dir / f"{name}.memmap").stat().st_size, int(np.prod(shape)) * store.column_dtypes[name].itemsize
        total += found
        if found != want:
            why = "as an append that has not ended leaves them; run it again"
            problems.append(f"{name}.memmap has {found - want} bytes more than its {shape[0]} rows, {why}")
    return Check("files", f"table and {len(store.column_shapes)} columns agree on {store.num_rows} rows; {total:,} bytes", tuple(problems))


def _check_record(store: Store, contradiction: str | None) -> Check:
    record = store.record
    if contradiction:
        return Check("record", "the record is not of this store", (contradiction,))
    if record is None:
        return Check("record", "no record (a store of the published system): nothing to hold the store to")
    said = f"mode {record.mode}, {record.duration_s:g} s, {record.backend} backend, {store.layout} layout, as the record says"
    return Check("record", said, (*_wrong_dtypes(store, record), *_wrong_lengths(store, record)))


def _wrong_dtypes(store: Store, record: StoreRecord) -> Iterator[str]:
    for name, dtype in store.column_dtypes.items():
        if record.dtypes.get(name) != schema.dtype_name(dtype):
            yield f"column {name} is {schema.dtype_name(dtype)} and the record says {record.dtypes.get(name, 'nothing of it')}"


def _wrong_lengths(store: Store, record: StoreRecord) -> Iterator[str]:
    try:
        wanted = schema.columns(store.kind, AudioSpec(record.mode, record.duration_s))
    except ValueError as error:
        yield f"the record tells of clips that there cannot be: {error}"
        return
    for name, (tokens, width) in wanted.items():
        found = store.row_shape(name)
        if found != (tokens, width):
            clips = f"clips of {record.duration_s:g} s in mode {record.mode}"
            yield f"{name} has {found[0]} tokens of {found[1]} where {clips} have {tokens} of {width}"


def _check_ids(store: Store) -> Check:
    first: dict[str, int] = {}
    repeated = [row for row, row_id in enumerate(store.ids) if first.setdefault(row_id, row) != row]
    problems = [f"row {row} has the id {store.ids[row]!r} of row {first[store.ids[row]]}" for row in repeated[:NUM_NAMED]]
    if len(repeated) > NUM_NAMED:
        problems[-1] += f"; {len(repeated) - NUM_NAMED} more rows repeat an id"
    empty = [row for row, row_id in enumerate(store.ids) if not row_id]
    problems += [f"row {empty[0]} has an empty id" + (f", and so have {len(empty) - 1} more" if len(empty) > 1 else "")] if empty else []
    return Check("ids", "every id is there and none is repeated", tuple(problems))


def _check_hash(store: Store, contradiction: str | None) -> Check:
    said = "ids and captions are those of the record, in its order" if store.record else "no record of ids and captions"
    return Check("rows", said, (contradiction,) if contradiction else ())


def _check_captions(store: Store, contradiction: str | None, scan: Scan) -> Check:
    if contradiction:
        return Check("captions", "text features of rows are not known", (contradiction,))
    texts, captions = (scan.clashes, []) if store.layout == "published" else clashing_places(store.captions, store.text_rows)
    problems = []
    for clash in texts[:NUM_NAMED]:
        rows = name_rows(store, [clash.row]), name_rows(store, [clash.first])
        problems.append(f"{rows[0]} has the caption of {rows[1]}, {store.captions[clash.first]!r}, and another text feature")
    for clash in captions[:NUM_NAMED]:
        rows = name_rows(store, [clash.row]), name_rows(store, [clash.first])
        problems.append(f"{rows[0]} has the text feature of {rows[1]} and another caption")
    if len(texts) + len(captions) > len(problems):
        problems[-1] += f"; {len(texts) + len(captions) - len(problems)} more rows are like these"
    return Check("captions", f"each of {len(set(store.captions))} captions has one text feature", tuple(problems))


def _check_numbers(store: Store, scan: Scan, encoders: KnownEncoders) -> Check:
    """Whether numbers are finite, and no row holds zeros, which no encoder gives, as a file that was cut and made longer does."""
    problems = []
    zeros = scan.zeros | ({"sync_features": _unexplained(store, scan, encoders)} if store.kind == "video" else {})
    of_row: dict[int, list[str]] = {}
    for said, found in (("numbers that are not finite", scan.not_finite), ("zeros where no encoder gives them,", zeros)):
        for name, places in found.items():
            rows = np.flatnonzero(np.isin(store.text_rows, places)).tolist() if name == TEXT_TABLE and places else places
            if places:
                whose = name_rows(store, rows) if rows else f"places {places[:NUM_NAMED]} that no row has"
                count = f"{len(rows)} {'row' if len(rows) == 1 else 'rows'}: " if found is zeros and rows else ""
                problems.append(f"{name} holds {said} in {count}{whose}")
            for row in rows if found is zeros else ():
                of_row.setdefault(row, []).append(name)
    entries = tuple({"row": row, "id": store.ids[row], "zeros": names} for row, names in sorted(of_row.items()))
    return Check("numbers", f"every number of {', '.join(scan.not_finite)} is finite, and no row is zeros", tuple(problems), entries)


def _unexplained(store: Store, scan: Scan, encoders: KnownEncoders) -> list[int]:
    """Rows whose sync_features hold zeros, though by their clip_features these are not what the encoder gives."""
    lost = set(scan.zeros["clip_features"])
    rows = scan.zeros["sync_features"]
    return [row for row in rows if row in lost or not encoders.may_have_zeros(store.read_block("clip_features", row, row + 1)[0].float())]


def _check_std(store: Store, scan: Scan) -> Check:
    problems = (f"std is below zero in {name_rows(store, scan.negative)}",) if scan.negative else ()
    return Check("std", "no std is below zero", problems)


def _check_statistics(store: Store, scan: Scan) -> Check:
    record = store.record
    if record is None or scan.not_finite["mean"]:
        return Check("statistics", "no record of latent statistics" if record is None else "latent statistics were not compared")
    wanted = {"latent_mean": record.latent_mean, "latent_std": record.latent_std}
    mean_c, std_c = scan.moments.result()
    scale_c, problems = torch.maximum(mean_c.abs(), std_c), []
    for (name, numbers), found_c in zip(wanted.items(), (mean_c, std_c), strict=True):
        if len(numbers) != len(found_c):
            problems.append(f"the record has {name} of {len(numbers)} channels and the store {len(found_c)}")
            continue
        off_c = (torch.tensor(numbers, dtype=torch.float64) - found_c).abs() - STATISTICS_ERROR * scale_c
        if not bool((off_c <= 0).all()):
            channel = int((off_c / scale_c).where(off_c > 0, 0.0).argmax())
            problems.append(f"{name} of channel {channel} is {numbers[channel]:.9g} in the record and {found_c[channel]:.9g} in the rows")
    return Check("statistics", "the latent statistics of the record are those of the rows", tuple(problems))


def _check_null_text(store: Store, encoders: KnownEncoders) -> Check:
    try:
        null_text = store.null_text()
    except UserError as error:
        return Check("null text", "the null text cannot be read", error.sentences)
    if null_text is None and store.record is None:
        return Check("null text", "none, as in every store of the published system")
    if null_text is None:
        path = schema.null_text_path(store.memmap_dir)
        return Check("null text", "no null text", (f"the store has none: {path} is missing; copy it again",))
    if not bool(torch.isfinite(null_text).all()):
        return Check("null text", "", ("the null text holds numbers that are not finite",))
    if bool(zero_token_rows(null_text[None]).any()):
        return Check("null text", "", ("the null text holds zeros where no encoder gives them",))
    recorded = store.record.null_text_hash if store.record is not None else ""
    if recorded:
        is_same = schema.hash_null_text(null_text, null_text.dtype) == recorded
        wrong = "the null text is not the one that the encoder gave when the store was made; extract the store again"
        return Check("null text", "the null text is the one that the encoder gave when the store was made", () if is_same else (wrong,))
    if encoders.null_texts is None:
        return Check("null text", "the null text is there and finite")
    return _compare_null_text(null_text, encoders.null_texts(), encoders.are_all)


def _compare_null_text(null_text: Tensor, known: Mapping[str, Tensor], are_all: bool) -> Check:
    limit = limits_of({schema.TEXT: null_text.dtype})["caption"]
    errors = {name: relative_error(wanted, null_text.float()) for name, wanted in known.items()}
    same = [name for name, error in errors.items() if error <= limit]
    if same:
        return Check("null text", f"the null text is what {same[0]} makes of the empty string")
    if are_all:
        said = " and ".join(f"what {name} makes of the empty string (error {error:.3g})" for name, error in errors.items())
        return Check("null text", "", (f"the null text is not {said}; extract the store again",))
    advice = "nothing is here to compare it with (`mmaudio weights fetch empty_string` gets the published one)"
    return Check("null text", f"the null text is there and finite, and unchecked: {advice}")
