"""Records to batches: hands on an endless iterator of training batches and a finite one of validation batches.

`mixture` says which stores make up the data, `fit` whether they fit the model, `order` which rows make up a step (pure
arithmetic), `placement` where rows come from, `gather` reads a batch into one of the `slabs` of host memory, `sending`
brings it to the device, `loader` does so ahead of the training loop.
"""

from mmaudio.batches.batch import Batch
from mmaudio.batches.loader import prefetch, training_batches, validation_batches
from mmaudio.batches.mixture import Mixture, Source
from mmaudio.batches.order import num_steps_per_epoch, shard, training_rows, validation_rows
from mmaudio.batches.placement import Placement
from mmaudio.batches.sources import check_batch_size, check_stores_fit

__all__ = [
    "Batch",
    "Mixture",
    "Placement",
    "Source",
    "check_batch_size",
    "check_stores_fit",
    "num_steps_per_epoch",
    "prefetch",
    "shard",
    "training_batches",
    "training_rows",
    "validation_batches",
    "validation_rows",
]
