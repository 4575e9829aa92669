"""Some rows of a store, held to what their media and captions give when they are encoded again."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.store.compare import Features, Finding, RowComparison, relative_error, shift_of
from mmaudio.store.format import TEXT, TEXT_TABLE
from mmaudio.store.reader import Store
from mmaudio.store.verify import NUM_NAMED, Check, name_rows


@dataclass(frozen=True)
class Encoded:
    """What a row's caption and media give, by column; `unreadable` says why the media give nothing."""

    row: int
    features: Features
    unreadable: str = ""


def draw_rows(num: int, num_rows: int, seed: int) -> list[int]:
    """Rows spread over a store, ascending: the first, the last, and one of each of `num` - 2 equal stretches between."""
    if num >= num_rows:
        return list(range(num_rows))
    inside = np.array_split(np.arange(1, num_rows - 1), max(num - 2, 0)) if num > 2 else []
    generator = np.random.default_rng(seed)
    return [0, *(int(generator.choice(stretch)) for stretch in inside), num_rows - 1]


def stored_features(store: Store, row: int) -> Features:
    """Everything a store holds of a row, by column; without a text where it points beyond the texts."""
    one = torch.tensor([row])
    num_texts = store.column_shapes[TEXT_TABLE if store.layout == "compact" else TEXT][0]
    text = {TEXT: store.text(one)} if 0 <= store.text_rows[row] < num_texts else {}
    return {name: value[0] for name, value in (store.gather(one) | text).items()}


def check_sample(store: Store, encoded: Iterable[Encoded], rows: Iterable[int], limits: Mapping[str, float]) -> Check:
    """Compare rows with their media, one at a time, and look where else these stand.

    Args:
        encoded: the sampled rows, encoded again.
        rows: which they are, known before any is encoded.
        limits: modality → relative error up to which features are the same (`limits_of`).
    """
    comparison = RowComparison(lambda row: stored_features(store, row), store.num_rows, rows, limits)
    findings: list[Finding] = []
    unreadable: list[str] = []
    num_read = 0
    for item in encoded:
        finding = comparison.compare(item.row, item.features)
        findings += [finding] if finding else []
        if item.unreadable:
            unreadable.append(f"{name_rows(store, [item.row])}: its media cannot be read: {item.unreadable}")
        else:
            num_read += 1
    problems = [finding.sentence(lambda row: store.ids[row]) for finding in findings]
    closing = _closing(shift_of(findings, num_read))
    what = "sound, picture and synchronisation" if store.kind == "video" else "sound"
    said = f"{what} of {num_read} rows are those of their media, and captions have their text features"
    return Check("sample", said, (*problems, *unreadable, *closing), tuple(_entry(store, finding) for finding in findings))


def _closing(step: int | None) -> tuple[str, ...]:
    if step is None:
        return ()
    return (f"the table seems shifted by one row: what belongs to a row stands one row {'further on' if step > 0 else 'before it'}",)


def _entry(store: Store, finding: Finding) -> dict[str, object]:
    errors = {name: error if math.isfinite(error) else None for name, error in finding.errors.items()}
    return {"row": finding.row, "id": store.ids[finding.row], "errors": errors, "places": finding.places}


def check_null_text(store: Store, encoded: Tensor, limit: float) -> Check:
    """Compare the null text with the encoder's feature of the empty string, (tokens, width).

    Args:
        limit: relative error up to which they are the same (`limits_of` a caption).
    """
    try:
        stored = store.null_text()
    except UserError:  # which `verify_store` tells
        stored = None
    if stored is None:
        return Check("empty string", "no null text to compare")
    error = relative_error(encoded, stored)
    wrong = f"the null text is not what the encoder makes of the empty string (error {error:.3g}); extract the store again"
    return Check("empty string", "the null text is what the encoder makes of the empty string", () if error <= limit else (wrong,))


def check_words(store: Store, captions: Mapping[str, str], source: str) -> Check:
    """Compare the captions of all rows with those of the table they come from, by id.

    Args:
        captions: id → caption there.
        source: what messages call that table.
    """
    absent = [row for row, row_id in enumerate(store.ids) if row_id not in captions]
    others = [row for row, row_id in enumerate(store.ids) if captions.get(row_id, store.captions[row]) != store.captions[row]]
    problems = [
        f"{name_rows(store, [row])} has the caption {store.captions[row]!r} and {source} says {captions[store.ids[row]]!r}"
        for row in others[:NUM_NAMED]
    ]
    if len(others) > NUM_NAMED:
        problems[-1] += f"; {len(others) - NUM_NAMED} more rows are like these"
    said = f"captions of {store.num_rows - len(absent)} rows are those of {source}"
    missing = f"; {len(absent)} {'row is' if len(absent) == 1 else 'rows are'} not in it" if absent else ""
    return Check("words", said + missing, tuple(problems))


def check_encoder_weights(store: Store, weights: Mapping[str, str]) -> Check:
    """Whether rows are encoded again with the weights that the record names: weight → checksum."""
    recorded = store.record.weights if store.record is not None else {}
    problems = [
        f"rows were encoded again with another {name} (checksum {found}) than the store was made with ({recorded[name]});"
        f" give that one: --pretrained {name}=PLACE"
        for name, found in weights.items()
        if recorded.get(name, found) != found
    ]
    said = f"the weights are those of the record ({', '.join(recorded)})" if recorded else "no record of weights"
    return Check("weights", said, tuple(problems))
