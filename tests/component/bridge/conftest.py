"""What both protocols' clients are tested against through a bridge."""

from collections.abc import Iterator

import pytest

from builders_bridge import Upstream, upstream
from builders_serving import ELEMENTS, arithmetic, echo, save, scale


@pytest.fixture(scope="session")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """A server with a model of each dtype, and of two inputs, of another shape, of a factor."""
    root = tmp_path_factory.mktemp("behind")
    for datatype in ELEMENTS:
        save(echo(datatype), root, datatype)
    save(arithmetic(), root, "arithmetic")
    save(scale(3.0), root, "scale")
    save(scale(1.0, [-1, 256]), root, "wide")
    with upstream(root) as made:
        yield made
