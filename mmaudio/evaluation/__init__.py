"""Evaluation of a model on a set: which set (`sets`), which model (`evaluated_model`), its sound (`sampling`), its numbers (`scoring`).

How sounds are scored, `protocol` says; what features that takes, `feature_files`; whose a folder of samples is, `owned_folders`.
`evaluator` joins them for evaluate.py, `training_stages` while a run trains.
"""
