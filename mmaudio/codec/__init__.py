"""Waveform ↔ latents: mel spectrograms, the published VAE and vocoders, and the weight-free `lite` codec and vocoder.

Tensors are channel-first here.
"""

from mmaudio.codec.bigvgan import BigVGAN as BigVGAN
from mmaudio.codec.bigvgan import load_vocoder as load_vocoder
from mmaudio.codec.lite_codec import LiteCodec as LiteCodec
from mmaudio.codec.lite_codec import LiteVocoder as LiteVocoder
from mmaudio.codec.mel import MelSpectrogram as MelSpectrogram
from mmaudio.codec.vae import MelVAE as MelVAE
from mmaudio.codec.vae import load_vae as load_vae
