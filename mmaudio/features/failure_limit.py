"""How many inputs may fail before an extraction is given up."""

from dataclasses import dataclass

from mmaudio.base.errors import RejectsError, UserError


@dataclass(frozen=True)
class FailureLimit:
    """How many inputs may fail: a number, or a share of all."""

    limit: float | None = None  # below 1: a share

    @classmethod
    def parse(cls, text: str | None) -> "FailureLimit":
        """Of `--max_failures`. Raises: UserError for what is neither a whole number nor a share below 1."""
        if text is None:
            return cls()
        try:
            limit = float(text)
        except ValueError:
            limit = -1.0
        if not limit >= 0 or (limit >= 1 and limit != int(limit)):
            raise UserError(f"--max_failures is {text!r}; want a whole number, or a share of the inputs such as 0.05")
        return cls(limit)

    def check(self, num_failed: int, num_seen: int) -> None:
        """Raises: RejectsError if more have failed than may."""
        if self.limit is None:
            return
        allowed = int(self.limit * num_seen) if self.limit < 1 else int(self.limit)
        if num_failed > allowed:
            raise RejectsError(f"{num_failed} of {num_seen} inputs failed and --max_failures allows {allowed}")
