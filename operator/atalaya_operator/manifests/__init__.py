"""One kind of object a file: each a plain dict for server-side apply, with only the fields that we mean to own."""
