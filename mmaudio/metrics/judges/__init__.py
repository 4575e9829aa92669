"""Networks that turn sounds, videos and captions into the features that metrics are told from, kept as av-benchmark's cache files."""

from mmaudio.metrics.judges.table import JUDGES as JUDGES
from mmaudio.metrics.judges.table import Judge as Judge
from mmaudio.metrics.judges.table import judges_for as judges_for
