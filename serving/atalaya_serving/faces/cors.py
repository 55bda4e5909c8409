"""Which pages of other sites a browser lets call the server over REST, as an original's flags say it."""

from dataclasses import dataclass

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp


@dataclass(frozen=True)
class Cors:
    """What is allowed; "*" is everything."""

    origins: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("*",)
    headers: tuple[str, ...] = ("*",)
    allows_credentials: bool = False

    def around(self, app: ASGIApp) -> ASGIApp:
        """`app` that tells it, and answers what browsers ask beforehand."""
        return CORSMiddleware(
            app,
            allow_origins=self.origins,
            allow_methods=self.methods,
            allow_headers=self.headers,
            allow_credentials=self.allows_credentials,
        )
