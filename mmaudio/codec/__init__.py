"""Waveform ↔ latents: mel spectrograms, and the weight-free `lite` codec and vocoder. Tensors are channel-first here."""

from mmaudio.codec.lite import LiteCodec as LiteCodec
from mmaudio.codec.lite import LiteVocoder as LiteVocoder
from mmaudio.codec.mel import MelSpectrogram as MelSpectrogram
