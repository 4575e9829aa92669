"""From the shapes of a store without a record to the clips it holds."""

from collections.abc import Iterator

from mmaudio.base.errors import UserError
from mmaudio.base.specs import CLIP_FPS, DEFAULT_DURATION_S, LATENT_DOWNSAMPLING, MIN_DURATION_S, MODES, SYNC_FPS, AudioSpec
from mmaudio.store import schema
from mmaudio.store.reader import Store
from mmaudio.store.schema import StoreRecord

NUM_DIGITS = (1, 2)  # of durations that are tried


def spec_of_store(store: Store, duration_s: float | None = None) -> AudioSpec:
    """Mode and duration of a store's clips: its record's, or those that its lengths tell.

    Args:
        duration_s: of a store without a record, where it is known.
    Raises: UserError where nothing fits, or the given duration does not.
    """
    if store.record is not None:
        return _recorded(store, store.record, duration_s)
    modes = [name for name, mode in MODES.items() if mode.latent_channels == store.latent_channels]
    if not modes:
        known = ", ".join(f"{mode.latent_channels} ({name})" for name, mode in MODES.items())
        raise UserError(f"store {store.memmap_dir} has latents of {store.latent_channels} channels; known are {known}")
    candidates = _durations(store, modes[0]) if duration_s is None else iter((duration_s,))
    for candidate in candidates:
        if candidate >= MIN_DURATION_S and _fits(store, AudioSpec(modes[0], candidate)):
            return AudioSpec(modes[0], candidate)
    lengths = f"{store.num_latents} latents" + (f", {store.num_clip} and {store.num_sync} tokens" if store.kind == "video" else "")
    told = "say of how many seconds they are: --duration" if duration_s is None else f"--duration {duration_s:g} gives others"
    raise UserError(f"rows of store {store.memmap_dir} have {lengths} in mode {modes[0]}; {told}")


def _recorded(store: Store, record: StoreRecord, duration_s: float | None) -> AudioSpec:
    try:
        spec = AudioSpec(record.mode, record.duration_s)
    except ValueError as error:
        raise UserError(f"the record of store {store.memmap_dir} tells of clips that there cannot be: {error}") from None
    if duration_s not in (None, record.duration_s):
        raise UserError(f"--duration is {duration_s:g}, and clips of store {store.memmap_dir} have {record.duration_s:g} s; leave it out")
    if not _fits(store, spec):
        raise UserError(f"rows of store {store.memmap_dir} do not have the lengths of its record; see `mmaudio store verify`")
    return spec


def _fits(store: Store, spec: AudioSpec) -> bool:
    return all(store.row_shape(name) == shape for name, shape in schema.columns(store.kind, spec).items())


def _durations(store: Store, mode: str) -> Iterator[float]:
    """What is tried, most likely first: the default, what the counts of frames say, then round numbers within one latent."""
    yield DEFAULT_DURATION_S
    if store.kind == "video":
        yield store.num_clip / CLIP_FPS
    latent_s = MODES[mode].hop_samples * LATENT_DOWNSAMPLING / MODES[mode].rate_hz
    longest_s = store.num_latents * latent_s
    for digits in NUM_DIGITS:
        step_s = 10.0**-digits
        for steps_back in range(int(max(latent_s, 1 / SYNC_FPS) / step_s) + 2):
            yield round(round(longest_s, digits) - steps_back * step_s, digits)
