"""The published weight files: which there are, where they are, and whether they are the right ones."""

from mmaudio.weights.catalogue import CATALOGUE as CATALOGUE
from mmaudio.weights.catalogue import VARIANTS as VARIANTS
from mmaudio.weights.catalogue import extraction_needs as extraction_needs
from mmaudio.weights.catalogue import find_row as find_row
from mmaudio.weights.catalogue import generation_needs as generation_needs
from mmaudio.weights.locate import check_place as check_place
from mmaudio.weights.locate import locate as locate
from mmaudio.weights.verification import checksum as checksum
