"""The store: scenes, assessments and the answer for every tile, in SQLite or PostgreSQL. It is also assess' journal."""

from atalaya_serving.store.errors import AssessmentUnknown, SceneUnknown, StoreError, StoreFull, StoreUnavailable
from atalaya_serving.store.records import (
    Assessment,
    AssessmentState,
    Environment,
    GridGeometry,
    Scene,
    TileRows,
    TileState,
    TileTable,
)
from atalaya_serving.store.store import Store

__all__ = [
    "Assessment",
    "AssessmentState",
    "AssessmentUnknown",
    "Environment",
    "GridGeometry",
    "Scene",
    "SceneUnknown",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "TileRows",
    "TileState",
    "TileTable",
]
