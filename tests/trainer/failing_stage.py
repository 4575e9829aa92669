"""Two processes train with a stage that talks between them, and fails at each of its points in turn, on either of them or on both.

Each process checks that all failures were heard, that a request to stop is heard likewise, and that the weights are as without a stage.
"""

import datetime
import signal
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from mmaudio.base.errors import UserError
from mmaudio.distributed.collectives import barrier, broadcast_from_first, gather_objects, on_all_ranks, on_first_rank, process_group
from mmaudio.distributed.ranks import read_ranks
from mmaudio.trainer.signals import StopReason
from mmaudio.trainer.stages import PlainStage
from mmaudio.trainer.trainer import Trainer
from tests.trainer.line_solver import LineSolver
from tests.trainer.test_solver import CPU, SETTINGS

NUM_POINTS = 9
ERRORS = (UserError("a sentence"), RuntimeError("CUDA out of memory"))
PLANS = [(point, who, ERRORS[point % 2]) for point, who in product(range(NUM_POINTS), [(0,), (1,), (0, 1)])]


def talk(rank, pass_point):
    """All kinds of talk, `pass_point(n)` between them."""
    pass_point(0)
    gather_objects(rank)
    pass_point(1)
    on_all_ranks(lambda: pass_point(2))
    pass_point(3)
    on_first_rank(lambda: pass_point(4))
    pass_point(5)
    assert broadcast_from_first(rank) == 0
    pass_point(6)
    barrier()
    pass_point(7)
    assert gather_objects({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    pass_point(8)
    return {"points": float(rank)}


def main() -> None:
    ranks, folder = read_ranks(), Path(tempfile.mkdtemp())
    settings = replace(SETTINGS, num_iterations=len(PLANS) + 1, eval_interval=1, log_text_interval=1000)

    def failing(_, steps_done):
        def pass_point(here):
            if steps_done <= len(PLANS):
                point, who, error = PLANS[steps_done - 1]
                if here == point and ranks.rank in who:
                    raise error

        return talk(ranks.rank, pass_point)

    def stopped(trainer, steps_done):
        def pass_point(here):
            if here == 7 and ranks.rank == 1:
                signal.raise_signal(signal.SIGTERM)
                trainer.stop.look()

        return talk(ranks.rank, pass_point)

    def run(name, *stages):
        trainer = Trainer(LineSolver(settings, ranks, CPU), folder / name, [PlainStage("evaluate", stage) for stage in stages])
        return trainer.train(), trainer

    with process_group(ranks, CPU, datetime.timedelta(seconds=60)):
        asked, trainer = run("failing", failing)
        # rank 1 has nothing to do at point 4, which only the first passes
        heard = [step for step, (point, who, _) in enumerate(PLANS, 1) if point != 4 or 0 in who]
        assert asked is StopReason.NOTHING and trainer.missed.steps == {"evaluate": heard}, trainer.missed
        _, plain = run("plain")
        for mine, straight in zip(trainer.state.network.parameters(), plain.state.network.parameters(), strict=True):
            assert torch.equal(mine, straight)
        asked, trainer = run("stopped", stopped)
        assert asked is StopReason.REQUEUE and trainer.state.unfinished.names == ("evaluate",) and not trainer.missed.steps
    print(f"rank {ranks.rank} is done", flush=True)


if __name__ == "__main__":
    main()
