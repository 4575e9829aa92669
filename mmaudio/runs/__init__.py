"""Experiments: what names a run, and later how runs are listed, compared and started in numbers."""
