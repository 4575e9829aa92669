"""Evaluation of a model on a set: which set (`sets`, `stores`), which model (`subject`), its sound (`samples`), its numbers (`scores`).

`full_tensor` joins them for evaluate.py, `stage` while a run trains.
"""
