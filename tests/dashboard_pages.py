"""What a page of the dashboard shows, read from Streamlit's AppTest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

Run = Callable[..., AppTest]


def words(at: AppTest) -> str:
    """All that the page says."""
    assert not at.exception, at.exception
    kinds = (at.markdown, at.caption, at.info, at.warning, at.error, at.get("html"))
    texts = [
        getattr(element, "value", None) or getattr(element.proto, "body", "") for kind in kinds for element in kind
    ]
    return "\n".join(str(text) for text in texts)


def deck(at: AppTest) -> dict[str, Any]:
    """The map that the page draws."""
    (chart,) = at.get("deck_gl_json_chart")
    found: dict[str, Any] = json.loads(chart.proto.json)
    return found


def layer_names(at: AppTest) -> list[str]:
    return [layer["id"] for layer in deck(at)["layers"]]


def group(at: AppTest, label: str) -> Any:
    """A row of buttons of which one may be chosen."""
    return next(each for each in at.get("button_group") if each.label == label)


def button(at: AppTest, label: str) -> Any:
    return next(each for each in at.button if each.label == label)


def upload(at: AppTest, key: str, path: Path) -> None:
    next(each for each in at.get("file_uploader") if each.key == key).upload(path.name, path.read_bytes())
