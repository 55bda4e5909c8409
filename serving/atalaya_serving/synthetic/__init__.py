"""A town that is nobody's: what `atalaya demo` and the tests draw, with its truth."""
