"""The network, one forward a screen.

Parameter names, shapes and their order are a file format: published weights load here and ours load there.
Axes: b batch, n latent token, c latent channel, t clip token, s sync token, l text token, d hidden channel.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio.base.specs import SYNC_TOKENS_PER_SEGMENT, TEXT_TOKENS
from mmaudio.flow.guidance import PresentConditions, PresentRows
from mmaudio.network.blocks import FinalLayer, JointBlock, Modulator, StreamBlock, Streams
from mmaudio.network.conditions import CONDITION_ROWS, Conditions
from mmaudio.network.layers import GatedMLP, TimeEmbedding, input_projection, rotation_table

# ---- Starting values: small where a block adds to the residual stream, zero where it is gated, so that training starts calm

TIME_STD = 0.02


def initialise_(network: nn.Module) -> None:
    """Set every learned weight in place (network.md section 9), drawing from torch's global generator.

    Linears Xavier-uniform with zero bias, the time embedding normal, all modulations and the output zero; other
    convolutions keep the framework's default.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.startswith("t_embed."):
                nn.init.normal_(module.weight, std=TIME_STD)
            if ".adaLN_modulation." in f".{name}":
                nn.init.zeros_(module.weight)
        elif name == "final_layer.conv":
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


V1_SINUSOIDS = 256
V2_TIME_MULTIPLIER = 10_000.0
FINAL_CONDS = ("global", "extended")


def _frozen(value: Tensor | None, shape: tuple[int, ...], fill: float, name: str) -> nn.Parameter:
    if value is None:
        return nn.Parameter(torch.full(shape, fill), requires_grad=False)
    if value.numel() != torch.Size(shape).numel():
        raise ValueError(f"{name} has shape {tuple(value.shape)}; want {shape}")
    return nn.Parameter(value.detach().float().reshape(shape).clone(), requires_grad=False)


# ---- The network


class FlowTransformer(nn.Module):
    """Predicts the velocity of a normalised latent. A freshly built one returns exactly zero.

    Args: sizes as in the published class; `v2` chooses its second flavour of input projections and time embedding;
        `final_cond` is what modulates the final layer: `global` (time and pooled conditions) or `extended` (with sync).
    Raises: ValueError for sizes that contradict each other.
    """

    latent_rot: Tensor
    clip_rot: Tensor
    sync_row: Tensor

    def __init__(
        self,
        *,
        latent_dim: int,
        clip_dim: int,
        sync_dim: int,
        text_dim: int,
        hidden_dim: int,
        depth: int,
        fused_depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        latent_seq_len: int,
        clip_seq_len: int,
        sync_seq_len: int,
        text_seq_len: int = TEXT_TOKENS,
        latent_mean: Tensor | None = None,
        latent_std: Tensor | None = None,
        empty_string_feat: Tensor | None = None,
        v2: bool = False,
        final_cond: str = "global",
    ) -> None:
        super().__init__()
        if hidden_dim % (2 * num_heads):
            raise ValueError(f"hidden_dim is {hidden_dim}; want a multiple of 2 x {num_heads} heads")
        if not 0 <= fused_depth < depth:
            raise ValueError(f"fused_depth is {fused_depth}; want 0 to {depth - 1}, less than depth")
        if (latent_mean is None) != (latent_std is None):
            raise ValueError("latent_mean and latent_std come together; one of them is missing")
        if final_cond not in FINAL_CONDS:
            raise ValueError(f"final_cond is {final_cond!r}; want {' or '.join(FINAL_CONDS)}")
        width, self.num_heads, self.text_seq_len, self.final_cond = hidden_dim, num_heads, text_seq_len, final_cond

        self.sync_pos_emb = nn.Parameter(torch.zeros(1, 1, SYNC_TOKENS_PER_SEGMENT, sync_dim))
        self.latent_mean = _frozen(latent_mean, (1, 1, latent_dim), float("nan"), "latent_mean")
        self.latent_std = _frozen(latent_std, (1, 1, latent_dim), float("nan"), "latent_std")
        self.empty_string_feat = _frozen(empty_string_feat, (text_seq_len, text_dim), 0.0, "empty_string_feat")
        self.empty_clip_feat = nn.Parameter(torch.zeros(1, clip_dim))
        self.empty_sync_feat = nn.Parameter(torch.zeros(1, sync_dim))

        strong: Callable[[], nn.Module] = nn.SiLU if v2 else nn.SELU
        self.audio_input_proj = input_projection(latent_dim, width, kernel=7, mlp_kernel=7, activation=strong())
        self.clip_input_proj = input_projection(clip_dim, width, kernel=1, mlp_kernel=3, activation=nn.SiLU() if v2 else None)
        self.sync_input_proj = input_projection(sync_dim, width, kernel=7, mlp_kernel=3, activation=strong())
        self.text_input_proj = input_projection(text_dim, width, kernel=1, mlp_kernel=1, activation=nn.SiLU() if v2 else None)
        self.clip_cond_proj = nn.Linear(width, width)
        self.text_cond_proj = nn.Linear(width, width)
        self.global_cond_mlp = GatedMLP(width, 4 * width)
        self.final_layer = FinalLayer(width, latent_dim)
        self.t_embed = TimeEmbedding(width, width if v2 else V1_SINUSOIDS, V2_TIME_MULTIPLIER if v2 else 1.0)
        last = depth - fused_depth - 1
        self.joint_blocks = nn.ModuleList(JointBlock(width, num_heads, mlp_ratio, is_last=i == last) for i in range(last + 1))
        self.fused_blocks = nn.ModuleList(StreamBlock(width, num_heads, mlp_ratio) for _ in range(fused_depth))

        self.update_seq_lengths(latent_seq_len, clip_seq_len, sync_seq_len)
        initialise_(self)

    # ---- lengths

    def update_seq_lengths(self, latent_seq_len: int, clip_seq_len: int, sync_seq_len: int) -> None:
        """Switch to other token counts; no parameter changes. Raises: ValueError for a sync count that is not whole segments."""
        if sync_seq_len <= 0 or sync_seq_len % SYNC_TOKENS_PER_SEGMENT or min(latent_seq_len, clip_seq_len) <= 0:
            raise ValueError(f"token counts {latent_seq_len}/{clip_seq_len}/{sync_seq_len}; want positive ones, sync a multiple of 8")
        self.latent_seq_len, self.clip_seq_len, self.sync_seq_len = latent_seq_len, clip_seq_len, sync_seq_len
        self._build_tables()

    def _build_tables(self) -> None:
        head_width, device = self.clip_cond_proj.in_features // self.num_heads, self.sync_pos_emb.device
        stretch = self.latent_seq_len / self.clip_seq_len
        self.register_buffer("latent_rot", rotation_table(self.latent_seq_len, head_width, device=device), persistent=False)
        self.register_buffer("clip_rot", rotation_table(self.clip_seq_len, head_width, stretch, device), persistent=False)
        row_s = torch.arange(self.sync_seq_len, device=device, dtype=torch.float32)[None, None]
        row_n = F.interpolate(row_s, size=self.latent_seq_len, mode="nearest-exact")[0, 0]  # its float32 rounding is part of the format
        self.register_buffer("sync_row", row_n.long(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FlowTransformer":
        super()._apply(fn, recurse)
        self._build_tables()  # a cast of the whole network leaves the tables float32
        return self

    # ---- latents

    def normalize(self, x: Tensor) -> Tensor:
        """Latents of the codec to latents of unit scale; a new tensor."""
        return (x - self.latent_mean) / self.latent_std

    def unnormalize(self, x: Tensor) -> Tensor:
        """The inverse of `normalize`; a new tensor."""
        return x * self.latent_std + self.latent_mean

    # ---- conditions

    def preprocess_conditions(self, clip_f: Tensor, sync_f: Tensor, text_f: Tensor) -> Conditions:
        """Project raw features (b, T, clip), (b, S, sync), (b, L, text). Raises: ValueError for another token count."""
        self._check("clip", clip_f, self.clip_seq_len)
        self._check("sync", sync_f, self.sync_seq_len)
        self._check("text", text_f, self.text_seq_len)
        segments_bgkc = sync_f.unflatten(1, (-1, SYNC_TOKENS_PER_SEGMENT)) + self.sync_pos_emb
        clip_btd = self.clip_input_proj(clip_f)
        sync_bsd = self.sync_input_proj(segments_bgkc.flatten(1, 2))
        text_bld = self.text_input_proj(text_f)
        clip_bd, text_bd = self.clip_cond_proj(clip_btd.mean(1)), self.text_cond_proj(text_bld.mean(1))
        return Conditions(clip_btd, sync_bsd, text_bld, clip_bd, text_bd, self.sync_row)

    def null_features(self, name: str) -> Tensor:
        """What stands for the absence of a condition: raw features of one sample, (1, tokens, width)."""
        num_tokens = {"clip": self.clip_seq_len, "sync": self.sync_seq_len, "text": self.text_seq_len}[name]
        return getattr(self, CONDITION_ROWS[name].null_name).expand(num_tokens, -1)[None]

    def present_conditions(self, clip_f: Tensor, sync_f: Tensor, text_f: Tensor, present: PresentConditions) -> Conditions:
        """Conditions of a batch in which not every sample is told everything; a null is projected once for all who get it.

        Features may be of a narrower dtype than the network: those that are told are widened.
        """

        def null_first(name: str, features_btc: Tensor, who: PresentRows) -> Tensor:
            return torch.cat([self.null_features(name), features_btc.index_select(0, who.rows)])

        projected = self.preprocess_conditions(
            null_first("clip", clip_f, present.clip), null_first("sync", sync_f, present.sync), null_first("text", text_f, present.text)
        )
        return projected.pick(present.clip.source, present.sync.source, present.text.source)

    def empty_conditions(self, negative_text: Tensor | None = None) -> Conditions:
        """What guidance leads away from: null features, or null video with a negative text (1 or b, L, text).

        Clip and sync have one row, text as many as the negative text; `MetricOptions.expand` makes them equal.
        """
        text_f = self.null_features("text") if negative_text is None else negative_text
        return self.preprocess_conditions(self.null_features("clip"), self.null_features("sync"), text_f)

    def _check(self, name: str, x_bnc: Tensor, want: int) -> None:
        if x_bnc.shape[1] != want:
            raise ValueError(f"{name} has {x_bnc.shape[1]} tokens; this network is set to {want}")

    # ---- velocity

    def predict_flow(self, latent: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """Velocity (b, N, c) of a normalised latent (b, N, c) at times t (b,) in [0, 1]."""
        self._check("latent", latent, self.latent_seq_len)
        global_b1d = (self.t_embed(t) + self.global_cond_mlp(conditions.clip_f_c + conditions.text_f_c))[:, None]
        by = Modulator(global_b1d)
        latent_by = Modulator(global_b1d + conditions.sync_rows, conditions.sync_row_n)
        x = Streams(self.audio_input_proj(latent), conditions.clip_f, conditions.text_f)
        for joint in self.joint_blocks:
            x = joint(x, by, latent_by, self.latent_rot, self.clip_rot)
        latent_bnd = x.latent
        for fused in self.fused_blocks:
            latent_bnd = fused(latent_bnd, latent_by, self.latent_rot)
        return self.final_layer(latent_bnd, {"global": by, "extended": latent_by}[self.final_cond])

    def forward(self, latent: Tensor, clip_f: Tensor, sync_f: Tensor, text_f: Tensor, t: Tensor) -> Tensor:
        """Velocity from raw conditions: `preprocess_conditions`, then `predict_flow`."""
        return self.predict_flow(latent, t, self.preprocess_conditions(clip_f, sync_f, text_f))
