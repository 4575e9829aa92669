"""Where the scripts of the repository and their settings are: beside the package, as an editable installation has them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG_DIR = ROOT / "config"
TRAIN_SCRIPT = ROOT / "train.py"
TRAINING_SCRIPTS = ROOT / "training"
