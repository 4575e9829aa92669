"""What a command needs of this machine, and what of it is missing."""
