"""The stores that settings name, opened; whether they fit the model."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.specs import MODES, AudioSpec
from mmaudio.batches import Mixture
from mmaudio.batches.mixture import Source
from mmaudio.settings.data_sources import SourceSettings
from mmaudio.settings.schema import BaseSettings
from mmaudio.store import Store
from mmaudio.store.format import TEXT, TEXT_SHAPE, columns, read_null_text

# ---- Whether stores fit a model, and each other

PUBLISHED_BACKEND = "pretrained"  # a store without a record is the published system's, which has one backend


def check_stores_fit(problems: Problems, sources: Sequence[Source], spec: AudioSpec, *, model: str, backend: str | None = None) -> None:
    """Add a sentence to `problems` for every store that does not fit the model, and for every two that do not fit each other.

    Args:
        problems: where to.
        sources: stores that would make up one mixture.
        spec: mode and duration of the model.
        model: what messages call the model.
        backend: backend of the run; None if the stores only have to agree.
    """
    for source in sources:
        _check_source(problems, source, spec, model, backend)
    _check_together(problems, sources, check_backend=backend is None)


def check_batch_size(problems: Problems, sources: Sequence[Source], batch_size: int, world_size: int = 1) -> None:
    """Add a sentence to `problems` for a global batch that is larger than the data or does not divide among ranks."""
    num_rows = sum(source.store.num_rows * source.repeat for source in sources)
    if batch_size > num_rows:
        listed = ", ".join(f"{source.name} {source.store.num_rows} x {source.repeat}" for source in sources)
        problems.add(f"batch_size is {batch_size} and the stores hold {num_rows} rows ({listed}); want at most {num_rows}, or more data")
    if batch_size < 1 or batch_size % world_size:
        problems.add(f"batch_size is {batch_size}; want a multiple of the {world_size} processes")


def _called(source: Source) -> str:
    return f"store {source.name} ({source.store.memmap_dir})"


def _mode(store: Store) -> str:
    """Mode of a store: recorded, or the one with that many channels; "" where there is none."""
    if store.record is not None:
        return store.record.mode
    return next((name for name, mode in MODES.items() if mode.latent_channels == store.latent_channels), "")


def _backend(store: Store) -> str:
    return PUBLISHED_BACKEND if store.record is None else store.record.backend


def _holds(store: Store) -> str:
    """What a store holds, in words: `44k latents (345 x 40, 8.0 s)`."""
    duration = f", {store.record.duration_s} s" if store.record is not None else ""
    mode = f"{_mode(store)} latents" if _mode(store) else "latents"
    return f"{mode} ({store.num_latents} x {store.latent_channels}{duration})"


def _check_source(problems: Problems, source: Source, spec: AudioSpec, model: str, backend: str | None) -> None:
    store, called = source.store, _called(source)
    if source.kind != store.kind:
        problems.add(f"{called} is configured as kind {source.kind} and holds kind {store.kind}; set its kind to {store.kind}")
    if source.repeat < 1:
        problems.add(f"{called} has repeat {source.repeat}; want at least 1, or leave it out of the list")
    if _mode(store) and _mode(store) != spec.mode:
        problems.add(
            f"{called} holds {_holds(store)} but model {model} wants {spec.num_latents} x {spec.latent_channels}:"
            f" extract it again with --mode {spec.mode} or choose a {_mode(store)} model"
        )
    elif (store.num_latents, store.latent_channels) != (spec.num_latents, spec.latent_channels):
        problems.add(
            f"{called} holds {_holds(store)} but model {model} wants {spec.num_latents} x {spec.latent_channels} ({spec.duration_s} s):"
            f" extract it again with --duration {spec.duration_s} or choose the store's duration for the model"
        )
    else:
        _check_features(problems, source, spec, model)
    if backend is not None and _backend(store) != backend:
        problems.add(
            f"{called} was made by backend {_backend(store)} but this run uses {backend}:"
            f" extract it again with --backend {backend} or run with backend={_backend(store)}"
        )


def _check_features(problems: Problems, source: Source, spec: AudioSpec, model: str) -> None:
    """Lengths and widths of the conditions; latents have been compared before."""
    wanted = columns(source.store.kind, spec) | {TEXT: TEXT_SHAPE}
    for name, shape in wanted.items():
        found = source.store.row_shape(name)
        if found != shape:
            problems.add(
                f"{_called(source)} holds {name} of {_times(found)} but model {model} wants {_times(shape)} ({spec.duration_s} s):"
                f" extract it again with --mode {spec.mode} --duration {spec.duration_s}"
            )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(length) for length in shape)


def _check_together(problems: Problems, sources: Sequence[Source], *, check_backend: bool) -> None:
    """What each store may have alone, but not beside the others: lengths are the model's business and checked above."""
    made_with: dict[str, tuple[str, Source]] = {}
    for source in sources:
        record = source.store.record
        weights = {f"weights of {name}": checksum for name, checksum in record.weights.items()} if record is not None else {}
        backend = {"backend": _backend(source.store)} if check_backend else {}
        for what, value in (backend | weights).items():
            known, other = made_with.setdefault(what, (value, source))
            if known != value:
                problems.add(
                    f"{_called(other)} and {_called(source)} do not belong together: one was made with {what} {known},"
                    f" the other with {value}; extract one of them again"
                )


# ---- The stores that settings name


def open_sources(settings: BaseSettings, names: Sequence[str], problems: Problems, *, repeats: bool = False) -> list[Source]:
    """The stores of these sources, in order. What cannot be opened goes to `problems` and is left out.

    Args:
        repeats: whether a source's `repeat` counts, as it does in training; else every row is there once.
    """
    opened = (problems.check(partial(_open, name, settings.data.sources[name], repeats)) for name in names)
    return [source for source in opened if source is not None]


def _open(name: str, given: SourceSettings, repeats: bool) -> Source:
    repeat = given.repeat if repeats else 1
    return Source.open(name, Path(str(given.tsv)), Path(str(given.memmap_dir)), kind=given.kind, repeat=repeat)


def open_mixture(settings: BaseSettings, names: Sequence[str], spec: AudioSpec, *, repeats: bool = False) -> Mixture:
    """The rows of these sources, one after another, each once, or with `repeats` as often as training counts it.

    Raises: UserError for stores that cannot be opened.
    """
    problems = Problems()
    sources = open_sources(settings, names, problems, repeats=repeats)
    problems.raise_any()
    return Mixture(sources, spec)


def null_text(sources: Sequence[Source], settings: BaseSettings) -> Tensor:
    """The text feature of the empty string, (77, 1024) float32: from a store, or from the published file (training.md section 6).

    Raises: UserError where neither has it.
    """
    for source in sources:
        feature = source.store.null_text()
        if feature is not None:
            return feature.float()
    published = Path(settings.empty_string_ckpt)
    if settings.backend == "pretrained" and published.is_file():
        return read_null_text(published)
    names = ", ".join(source.name for source in sources)
    known = f", and there is no {published} (`mmaudio weights fetch empty_string` gets it)" if settings.backend == "pretrained" else ""
    raise UserError(
        f"no store of data.train ({names}) holds the text feature of the empty string{known};"
        " extract one of them with this version, or start from weights=FILE"
    )
