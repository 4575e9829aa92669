"""What the files in a run's folder are called that more than one part of the system reads."""

CONFIG_FILE = "config.yaml"  # the settings of the run, complete
LOG_FILE = "train.log"
METRICS_FILE = "metrics.jsonl"  # a line per reading of averages: `steps_done`, and values by `stage/name`
REQUEUE_FILE = "requeue"  # there while a run that was stopped by its scheduler waits to go on
