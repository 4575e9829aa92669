"""The networks in one arithmetic, measured in a process of their own: `python -m benchmarks.encoder_case '{"arithmetic": "fp32", …}'`.

Prints a JSON object as soon as there is something to say, so that what is known when the time is up is kept.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

import torch

from benchmarks.encoder_clips import Clips, measure_clips
from benchmarks.encoder_networks import CLIP_SPEC, Network, networks_for
from benchmarks.memory import peak_bytes
from benchmarks.rates import bench_device, seconds_of
from mmaudio.base.specs import torch_dtype
from mmaudio.features.backend import Backend
from mmaudio.features.backend_plan import FOR_VIDEO, BackendPlan
from mmaudio.trainer.costs import MatrixProduct

PRODUCT_SHARE = 0.25  # of a network's operations, in the product timed in turns with it


@dataclass(frozen=True)
class Arithmetic:
    """A type of the networks, of base.dtypes, and whether products of float32 may be of TF32."""

    dtype: str
    tf32: bool

    def choose(self) -> None:
        """For the whole process."""
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = self.tf32


ARITHMETIC = {"fp32": Arithmetic("fp32", tf32=False), "TF32": Arithmetic("fp32", tf32=True), "bf16": Arithmetic("bf16", tf32=True)}


@dataclass(frozen=True)
class Case:
    """What is measured: `arithmetic` is a key of ARITHMETIC; whole clips are measured where there are `places` of weights."""

    arithmetic: str = "fp32"
    compiled: bool = False
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One network with all its blocks, per item; or why it was not measured."""

    name: str
    item: str
    amount: str
    per_clip: float
    flops: float
    seconds: float | None = None
    rate: float | None = None  # of the matrix product, FLOP/s
    peak_bytes: int | None = None  # of the whole amount, beyond weights and input
    failure: str | None = None


def matrix_product(flops: float, dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], None], float]:
    """A call that multiplies large matrices with about as many operations, and how many they are."""
    product = MatrixProduct.on(device, dtype)
    num_times = max(1, round(flops / product.flops))

    def call() -> None:
        for _ in range(num_times):
            product()

    return call, num_times * product.flops


@torch.inference_mode()
def measure(network: Network, case: Case, device: torch.device) -> Row:
    """One network."""
    whole_flops, dtype = network.flops(network.of_blocks), torch_dtype(ARITHMETIC[case.arithmetic].dtype)
    flops = whole_flops if network.num_blocks == network.of_blocks else network.flops(network.num_blocks)
    per_item = whole_flops / network.num_items
    try:
        module = network.ready(device, dtype)
        with device:
            given = network.inputs()
        if case.compiled:
            network.part_compiled(module).compile()

        def call() -> None:
            network.run(module, given)

        call()  # compiles, chooses kernels
        peak = peak_bytes(call, device)
        product, product_flops = matrix_product(PRODUCT_SHARE * flops, dtype, device)
        spent_s, product_s = seconds_of([call, product], device)
    except RuntimeError as error:  # of a compiler, or of a device whose memory is full
        reason = str(error).strip().partition("\n")[0]
        return Row(network.name, network.item, network.amount, network.per_clip, per_item, failure=reason)
    seconds, rate = per_item * spent_s / flops, product_flops / product_s
    return Row(network.name, network.item, network.amount, network.per_clip, per_item, seconds, rate, peak)


def whole_clips(case: Case, device: torch.device) -> Clips:
    """Through a backend in the case's arithmetic, against an eager one in float32."""

    def build(arithmetic: str, compiled: bool) -> Backend:
        chosen = ARITHMETIC[arithmetic]
        chosen.choose()
        plan = BackendPlan("pretrained", CLIP_SPEC, dtype=chosen.dtype, places=case.places, compiled=compiled)
        return Backend.load(plan, device, FOR_VIDEO)

    clips = measure_clips(build(case.arithmetic, case.compiled), lambda: build("fp32", False))
    ARITHMETIC[case.arithmetic].choose()
    return clips


def results(case: Case, device: torch.device) -> Iterator[Row | Clips]:
    """One after another, as they are known; what extraction needs comes first."""
    ARITHMETIC[case.arithmetic].choose()
    networks = networks_for(device)
    for network in networks:
        if network.per_clip:
            yield measure(network, case, device)
    if case.places:
        yield whole_clips(case, device)
    for network in networks:
        if not network.per_clip:
            yield measure(network, case, device)


def main() -> None:
    for result in results(Case(**json.loads(sys.argv[1])), bench_device()):
        print(json.dumps({type(result).__name__: asdict(result)}), flush=True)


if __name__ == "__main__":
    main()
