"""Clips to records of features, by a backend named in the settings."""

from mmaudio.features.backend import Backend as Backend
from mmaudio.features.backend import build_backend as build_backend
