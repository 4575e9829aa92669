"""The `mmaudio` command, one file per subcommand, and what the scripts of training/ share."""
