"""Frames, text and sounds to features: CLIP, Synchformer, and the weight-free `lite` encoders of the same shapes."""

from mmaudio.encoders.clip import Clip as Clip
from mmaudio.encoders.clip import load_clip as load_clip
from mmaudio.encoders.lite_encoders import LiteText as LiteText
from mmaudio.encoders.lite_encoders import encode_scene as encode_scene
from mmaudio.encoders.lite_encoders import encode_sync as encode_sync
from mmaudio.encoders.lite_encoders import is_middle_grey as is_middle_grey
from mmaudio.encoders.synchformer import Synchformer as Synchformer
from mmaudio.encoders.synchformer import load_synchformer as load_synchformer
from mmaudio.encoders.synchformer_audio import SynchformerAudio as SynchformerAudio
from mmaudio.encoders.synchformer_audio import load_synchformer_audio as load_synchformer_audio
from mmaudio.encoders.synchformer_head import SyncHead as SyncHead
from mmaudio.encoders.synchformer_head import by_segment as by_segment
from mmaudio.encoders.synchformer_head import load_sync_head as load_sync_head
