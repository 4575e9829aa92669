"""What the files and folders of a run are called that more than one part of the system reads or writes."""

from mmaudio.base.samples_file import SAMPLES_FILE as SAMPLES_FILE

CONFIG_FILE = "config.yaml"  # the settings of the run, complete
LOG_FILE = "train.log"
METRICS_FILE = "metrics.jsonl"  # a line per reading of averages: `steps_done`, and values by `stage/name`
SWEEP_FILE = "ema_sweep.json"  # losses of averages of many lengths
REQUEUE_FILE = "requeue"  # there while a run that was stopped by its scheduler waits to go on

# Sounds of a run
PREVIEWS_FOLDER = "previews"  # a few rows, while it trains
REPLACED_SAMPLES_FOLDER = "val-cache"  # of one evaluation on the way, until the next one
REAL_SOUNDS_FOLDER = "reference"  # stored latents as the codec sounds them
SAMPLED_ENDING = "-sampled"  # of a folder of sounds of stored rows, after the tag of the rows

# In and beside a folder of sounds
SCORES_FILE = "scores.json"
SCORES_ENDING = "output_metrics.json"  # of a file of scores that has the name of what was scored before it
FEATURES_FOLDER = "cache"  # av-bench's features of the generated sounds, made here …
REAL_FEATURES_FOLDER = "reference-cache"  # … and of the real ones
