"""The published weight files: which there are, where they are, and whether they are the right ones."""

from mmaudio.weights.catalogue import CATALOGUE, MODES, VARIANTS, WeightRow, extraction_needs, find_row, generation_needs
from mmaudio.weights.locate import check_place, locate
from mmaudio.weights.verify import checksum

__all__ = [
    "CATALOGUE",
    "MODES",
    "VARIANTS",
    "WeightRow",
    "check_place",
    "checksum",
    "extraction_needs",
    "find_row",
    "generation_needs",
    "locate",
]
