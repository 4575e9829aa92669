"""The `mmaudio` command, one file per subcommand; train.py, evaluate.py and the scripts of training/ call these."""
