"""Files on disk: written whole or not at all, locked, named by ids, marked as ours, and their tables and tensors."""
