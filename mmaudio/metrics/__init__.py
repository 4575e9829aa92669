"""From a folder of generated sounds and their references to numbers: alignment in time, spectral distances, intervals."""
