"""What a metric that has no number says of it."""


class UntellableError(Exception):
    """A number that cannot be told from what there is: one sentence with the reason, which the result carries beside a null."""
