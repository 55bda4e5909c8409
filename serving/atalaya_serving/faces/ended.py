"""How an original ends before it serves."""


class Ended(Exception):
    """The original would end here with this exit code, after these words on its output."""

    def __init__(self, code: int, words: str, *, is_error: bool = True) -> None:
        """With `is_error` the words belong on stderr."""
        super().__init__(words)
        self.code, self.words, self.is_error = code, words, is_error
