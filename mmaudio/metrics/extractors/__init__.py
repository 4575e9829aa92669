"""Networks that turn sounds, videos and captions into the features that metrics are told from, kept as av-benchmark's cache files."""

from mmaudio.metrics.extractors.available import EXTRACTORS as EXTRACTORS
from mmaudio.metrics.extractors.available import FeatureExtractor as FeatureExtractor
from mmaudio.metrics.extractors.available import extractors_for as extractors_for
