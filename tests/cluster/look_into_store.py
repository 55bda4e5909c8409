"""Runs in the dashboard's pod: prints what is in the store that its pages read."""

import json
import os

from atalaya_serving.paths import Paths
from atalaya_serving.store.store import Store

paths = Paths.from_env(os.environ)
with Store.open(paths.store_url) as store:
    [found] = store.assessments()
    told = {"assessment": found.id, "state": found.state, "tiles": len(store.tiles(found.id).row)}
print(json.dumps({**told, "store": paths.store_url, "has_file": (paths.home / "store.db").exists()}))
