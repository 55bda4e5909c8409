"""The product's own images, from the very Containerfile that users build, in the registry of a test cluster."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from atalaya_spec import ovms, tfs
from cluster.access import Cluster
from cluster.images import Image, ImageStore, Recipe
from cluster.layout import CHECKOUT, IMAGE_HOST


def _version() -> str:
    told = re.search(r'^version = "(.+)"', (CHECKOUT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert told
    return told[1]


VERSION = _version()


@dataclass(frozen=True)
class ProductImage:
    """One image: as whom the chart knows it, and what it is of the Containerfile."""

    reference: str
    target: str
    build_args: Mapping[str, str] = field(default_factory=dict)


OPERATOR = ProductImage(f"atalaya/operator:{VERSION}", "operator")
SERVING = ProductImage(f"atalaya/serving:{VERSION}", "serving")
DASHBOARD = ProductImage(f"atalaya/dashboard:{VERSION}", "dashboard")
OVMS_FACE = ProductImage(f"atalaya/ovms:{ovms.VERSIONS[-1]}", "face", {"FACE": f"ovms:{ovms.VERSIONS[-1]}"})
TFS_FACE = ProductImage(
    f"atalaya/tensorflow-model-server:{tfs.VERSIONS[-1]}",
    "face",
    {"FACE": f"tensorflow_model_server:{tfs.VERSIONS[-1]}"},
)
ALL = (OPERATOR, SERVING, DASHBOARD, OVMS_FACE, TFS_FACE)


def build(store: ImageStore, image: ProductImage) -> Image:
    """Build it, or find it built."""
    arguments = {"BASE": store.base().reference, **image.build_args}
    reference = f"{IMAGE_HOST}/{image.reference}"
    recipe = Recipe(reference, CHECKOUT / "Containerfile", CHECKOUT, arguments, image.target)
    return store.build_to_push(recipe)


def push(cluster: Cluster, *images: ProductImage) -> None:
    """Have nodes find them, under the names that the chart gives them."""
    for image in images:
        cluster.push_image(build(cluster.images, image), image.reference)
