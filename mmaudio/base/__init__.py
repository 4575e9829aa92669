"""What every other package may lean on: rates and lengths, errors, files, tables, ranks, draws, logs and settings."""
