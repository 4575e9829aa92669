"""Frames and text to features: the weight-free `lite` encoders, by the shapes of CLIP and Synchformer."""

from mmaudio.encoders.lite import encode_scene as encode_scene
from mmaudio.encoders.lite import encode_sync as encode_sync
from mmaudio.encoders.text import LiteText as LiteText
