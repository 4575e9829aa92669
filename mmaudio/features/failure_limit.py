"""How many inputs may fail before an extraction is given up."""

from dataclasses import dataclass

from mmaudio.base.errors import RejectsError, UserError


@dataclass(frozen=True)
class FailureLimit:
    """How many inputs may fail: a number, or a share of all; neither where any number may."""

    number: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str | None) -> "FailureLimit":
        """Of `--max_failures`: `1` is one input, `1.0` is all. Raises: UserError for neither a whole number nor a share up to 1.0."""
        if text is None:
            return cls()
        if text.isascii() and text.isdecimal():
            return cls(number=int(text))
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UserError(f"--max_failures is {text!r}; want a whole number such as 100, or a share of the inputs from 0.0 to 1.0")
        return cls(share=share)

    def check(self, num_failed: int, num_seen: int) -> None:
        """Raises: RejectsError if more have failed than may."""
        allowed = int(self.share * num_seen) if self.share is not None else self.number
        if allowed is not None and num_failed > allowed:
            raise RejectsError(f"{num_failed} of {num_seen} inputs failed and --max_failures allows {allowed}")
