"""What the processes of a run are to each other: which one this is, its device, how they talk, and what ends when one fails."""
