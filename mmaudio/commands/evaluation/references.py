"""The real sounds of a set of stored rows whose media are not at hand: their latents as the codec sounds them, made once."""

import logging
from dataclasses import replace
from pathlib import Path

from mmaudio.base.file_names import file_of
from mmaudio.base.files import text_hash
from mmaudio.base.ranks import Ranks
from mmaudio.commands.evaluation.samples import begin_folder, sound_latents
from mmaudio.commands.evaluation.scoring import Beat
from mmaudio.commands.evaluation.sets import EvalSet
from mmaudio.features.backend import Backend
from mmaudio.store import record_path

log = logging.getLogger(__name__)


def with_reference(chosen: EvalSet, backend: Backend, folder: Path, batch_size: int, ranks: Ranks, beat: Beat = lambda: None) -> EvalSet:
    """Collective. The same set with real sounds: its own if it has any, else decoded latents in `folder`, if it has rows.

    A folder made of the same rows by the same codec is used again.
    """
    if chosen.sounds or chosen.rows is None:
        return chosen
    made_by = {
        "reference": "latents of the store, decoded",
        "backend": backend.name,
        "decoder": backend.weights,
        "stores": [store_identity(source.store.memmap_dir) for source in chosen.rows.sources],
    }
    if not folder.is_dir():
        log.info("no media of the real sounds are at hand (data.NAME.root, reference=FOLDER): their latents are sounded instead")
    begin_folder(folder, made_by, chosen.captions, keeps=True)
    sound_latents(backend, chosen.rows, folder, batch_size, ranks, len(chosen.captions), beat)
    return replace(chosen, sounds={name: file_of(folder, name, ".flac") for name in chosen.captions})


def store_identity(memmap_dir: Path) -> str:
    """Changes when a store is written anew."""
    record = record_path(memmap_dir)
    return text_hash([str(memmap_dir), record.read_text(encoding="utf-8") if record.is_file() else ""])
