"""Starting values: small where a block adds to the residual stream, zero where it is gated, so that training starts calm."""

from torch import nn

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
