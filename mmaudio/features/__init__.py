"""Media to features and latents to sound, by the pretrained or the lite backend: `build_backend`, `Backend`.

They are loaded when they are asked for, so that help, which names the backends, comes without torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmaudio.features.backend import Backend as Backend
    from mmaudio.features.backend import build_backend as build_backend


def __getattr__(name: str) -> Any:
    if name not in ("Backend", "build_backend"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmaudio.features import backend

    return getattr(backend, name)
