"""The flow-prediction transformer: latents, times and conditions in, velocities out."""

from mmaudio.network.conditions import CONDITION_ROWS as CONDITION_ROWS
from mmaudio.network.conditions import Conditions as Conditions
from mmaudio.network.transformer import FlowTransformer as FlowTransformer
from mmaudio.network.variants import STALE_KEYS as STALE_KEYS
from mmaudio.network.variants import VARIANTS as VARIANTS
from mmaudio.network.variants import Variant as Variant
from mmaudio.network.variants import build_network as build_network
from mmaudio.network.variants import check_weights as check_weights
from mmaudio.network.variants import find_variant as find_variant
from mmaudio.network.variants import load_network as load_network
