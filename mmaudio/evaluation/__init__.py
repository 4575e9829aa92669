"""Evaluation of a model on a set: which set (`sets`), which model (`evaluated_model`), its sound (`sampling`), its numbers (`scoring`).

`evaluator` joins them for evaluate.py, `training_stages` while a run trains.
"""
