"""Frames and text to features: CLIP and Synchformer, and the weight-free `lite` encoders of the same shapes."""

from mmaudio.encoders.clip import Clip as Clip
from mmaudio.encoders.clip import load_clip as load_clip
from mmaudio.encoders.lite import encode_scene as encode_scene
from mmaudio.encoders.lite import encode_sync as encode_sync
from mmaudio.encoders.synchformer import Synchformer as Synchformer
from mmaudio.encoders.synchformer import load_synchformer as load_synchformer
from mmaudio.encoders.text import LiteText as LiteText
