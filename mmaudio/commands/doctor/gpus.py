"""GPUs by name, for plans made on a machine that has none: memory and published dense matrix rates."""

from dataclasses import dataclass

from mmaudio.base.errors import UserError, nearest


@dataclass(frozen=True)
class Gpu:
    """Memory in bytes; FLOP/s of matrix products as published, which measured ones reach 70 to 80 % of."""

    name: str
    memory: float
    bf16_rate: float
    tf32_rate: float

    def rate(self, *, amp: bool) -> float:
        """FLOP/s in the precision that training computes in."""
        return self.bf16_rate if amp else self.tf32_rate


GPUS = {
    row.name: row
    for row in (
        Gpu("RTX4090", 24e9, 165e12, 82e12),
        Gpu("L40S", 48e9, 362e12, 183e12),
        Gpu("A100-40GB", 40e9, 312e12, 156e12),
        Gpu("A100", 80e9, 312e12, 156e12),
        Gpu("H100", 80e9, 989e12, 494e12),
        Gpu("H200", 141e9, 989e12, 494e12),
        Gpu("B200", 180e9, 2250e12, 1100e12),
    )
}


def find_gpu(name: str) -> Gpu:
    """The row of a name. Raises: UserError with the nearest one for a name that is not there."""
    if name not in GPUS:
        raise UserError(f"--gpu is {name!r}{nearest(name, GPUS)}; known are {', '.join(GPUS)}")
    return GPUS[name]
