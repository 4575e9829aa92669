"""What every other package may lean on: rates and lengths, errors, options, logs, random numbers, and what this machine is."""
