"""Small real images that stand in for a model server, each with one fault, or none; made from busybox.

They take a server's arguments, answer its REST paths, and as a fetch container they end as ours does: with a line that
begins with the reason.
"""

from pathlib import Path

from cluster.access import Cluster
from cluster.images import Image, Recipe
from cluster.layout import IMAGE_HOST

ENTRY = r"""#!/bin/sh
# The model `m`, version 3, is ready as long as this file is there.
READY=/tmp/www/v2/models/m/versions/3/ready
if [ "$1" = fetch ]; then
  for argument; do case "$argument" in --from=*) from=${argument#--from=};; esac; done
  word=${from##*/}
  echo "fetching $from"
  case "$word" in [A-Z]*) echo "$word: $from says no; mend it." >&2; exit 1;; esac
  exit 0
fi
case "$(cat /behaviour)" in
  crash) exec >&2; echo "server: starting"; echo "server: libmodel.so: undefined symbol"; exit 3;;
  memory) x=0123456789; while :; do x=$x$x; done;;
  bad-store) echo "[modelmanager] Couldn't start model manager"
    echo "[server] ovms::ModelManager::Start() Error: S3 Invalid access rights"; exit 1;;
  waiting) echo "No version found for model in path: /models/m"; exec sleep 1000;;
esac
mkdir -p "${READY%/*}" /tmp/www/v2/health
echo ok > "$READY"
echo ok > /tmp/www/v2/health/live
exec httpd -f -p 8000 -h /tmp/www
"""
# The head of a program for arm64, which no amd64 kernel takes.
_FOREIGN = r"\177ELF\002\001\001\000\000\000\000\000\000\000\000\000\002\000\267\000\001\000\000\000"
_ARM64 = f"RUN printf '{_FOREIGN}' > /entry.sh && chmod 755 /entry.sh"


def faulty_image(cluster: Cluster, behaviour: str, folder: Path) -> str:
    """An image on the real node; `serve` is the one without a fault. Answers its reference."""
    return cluster.load_image(build(cluster, behaviour, folder))


def build(cluster: Cluster, behaviour: str, folder: Path) -> Image:
    context = folder / behaviour
    context.mkdir(parents=True, exist_ok=True)
    (context / "entry.sh").write_text(ENTRY)
    program = {"arm64": '["/entry.sh"]', "no-program": '["/opt/server"]'}.get(behaviour, '["/bin/sh", "/entry.sh"]')
    lines = [
        f"FROM {cluster.images.busybox().reference}",
        "COPY entry.sh /entry.sh",
        f"RUN echo {behaviour} > /behaviour",
        *([_ARM64] if behaviour == "arm64" else []),
        f"ENTRYPOINT {program}",
    ]
    containerfile = context / "Containerfile"
    containerfile.write_text("\n".join(lines) + "\n")
    return cluster.images.build(Recipe(f"{IMAGE_HOST}/faulty:{behaviour}", containerfile, context))
