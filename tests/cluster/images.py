"""Builds container images without a registry, from the very Containerfiles that users build.

buildah builds; mmdebstrap makes what stands in for a base image from Debian's packages. An image is kept as an OCI
archive named by the digest of all that went into it, so a second build of the same is no work; a large one that is only
pushed to a registry stays in buildah's own storage, which keeps a layer once for all images that share it.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.errors import ClusterFault
from cluster.layout import CHECKOUT, IMAGE_HOST, Layout

CONTAINERFILES = Path(__file__).parent / "containerfiles"
PYTHON_BASE = f"{IMAGE_HOST}/python:3.11-slim-bookworm"
PYTHON_BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates", "libgomp1")
# `pip install` in a RUN needs the machine's certificates.
_VOLUMES = ("/etc/ssl/certs:/etc/ssl/certs:ro", "/usr/share/ca-certificates:/usr/share/ca-certificates:ro")


@dataclass(frozen=True)
class Image:
    """An image that can be pushed to a cluster's registry, and where it is in an archive loaded onto its node."""

    reference: str
    archive: Path | None = None


@dataclass(frozen=True)
class Recipe:
    """What an image is built from: a Containerfile, or one `target` of it, and what it copies from `context`."""

    reference: str
    containerfile: Path
    context: Path
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""

    def digest(self) -> str:
        digest = hashlib.sha256(f"{self.reference}{self.target}".encode())
        for name, value in sorted(self.build_args.items()):
            digest.update(f"{name}={value}\0".encode())
        for file in (self.containerfile, *_context_files(self.context, copied(self.containerfile))):
            digest.update(f"{file.name}\0{_mode(file)}\0".encode())
            digest.update(file.readlink().as_posix().encode() if file.is_symlink() else file.read_bytes())
        return digest.hexdigest()[:12]


class ImageStore:
    """The images of one checkout, in `.cache/cluster/images`."""

    def __init__(self, checkout: Path = CHECKOUT) -> None:
        self._folder = Layout(checkout=checkout).cache / "images"
        self._storage = ["--root", str(self._folder / "storage"), "--storage-driver", "overlay"]
        self._storage += ["--runroot", str(self._folder / "storage-run")]

    def build(self, recipe: Recipe) -> Image:
        """The image of a Containerfile; from the cache when nothing that goes into it has changed."""
        archive = self._folder / f"{_file_name(recipe.reference)}-{recipe.digest()}.tar"
        with self._one_at_a_time():
            if not archive.is_file():
                self._build(recipe)
                self._export(recipe.reference, archive)
        return Image(recipe.reference, archive)

    def build_to_push(self, recipe: Recipe) -> Image:
        """The same without an archive, for a large image that is pushed to a registry."""
        stamp = self._folder / f"{_file_name(recipe.reference)}-{recipe.digest()}.built"
        with self._one_at_a_time():
            if not stamp.is_file() or not self._is_stored(stamp.read_text()):
                self._build(recipe)
                stamp.write_text(_run(["buildah", *self._storage, "images", "--quiet", recipe.reference]).strip())
            else:
                _run(["buildah", *self._storage, "tag", stamp.read_text(), recipe.reference])
        return Image(recipe.reference)

    def base(
        self, reference: str = PYTHON_BASE, packages: Iterable[str] = PYTHON_BASE_PACKAGES, suite: str = "bookworm"
    ) -> Image:
        """Debian with `packages`, for `--build-arg BASE=…`: its reference is known to later builds here."""
        packages = tuple(sorted(packages))
        key = hashlib.sha256(" ".join([suite, *packages]).encode()).hexdigest()[:12]
        context = self._folder / f"base-{key}"
        tree = context / "base.tar"
        with self._one_at_a_time():
            if not tree.is_file():
                context.mkdir(parents=True, exist_ok=True)
                unfinished = context / "unfinished.tar"
                include = f"--include={','.join(packages)}"
                _run(["mmdebstrap", "--quiet", "--variant=minbase", include, suite, str(unfinished)])
                unfinished.rename(tree)
        return self.build(Recipe(reference, CONTAINERFILES / "debian.Containerfile", context))

    def busybox(self, reference: str = f"{IMAGE_HOST}/busybox:1") -> Image:
        """The tiny image: a shell, httpd, wget, nslookup."""
        return self._around("busybox", _program("busybox"), reference)

    def coredns(self, binary: Path) -> Image:
        return self._around("coredns", binary, f"{IMAGE_HOST}/coredns:1")

    def push(self, image: Image, target: str) -> list[str]:
        """The command that pushes an image to `host:port/name:tag`; it is run where that registry listens."""
        return [
            "buildah",
            *self._storage,
            "push",
            "--quiet",
            "--tls-verify=false",
            image.reference,
            f"docker://{target}",
        ]

    def _around(self, name: str, binary: Path, reference: str) -> Image:
        """An image of one static binary; the context keeps nothing else."""
        context = self._folder / f"context-{name}"
        context.mkdir(parents=True, exist_ok=True)
        with self._one_at_a_time():
            _copy_if_other(binary, context / name)
        return self.build(Recipe(reference, CONTAINERFILES / f"{name}.Containerfile", context))

    def _build(self, recipe: Recipe) -> None:
        command = ["buildah", *self._storage, "bud", "--quiet", "--layers", "--force-rm", "--isolation", "chroot"]
        command += ["--tag", recipe.reference, *([f"--target={recipe.target}"] if recipe.target else [])]
        command += [f"--volume={volume}" for volume in _VOLUMES if Path(volume.split(":")[0]).is_dir()]
        command += [f"--build-arg={name}={value}" for name, value in recipe.build_args.items()]
        _run([*command, "--file", str(recipe.containerfile), str(recipe.context)])

    def _is_stored(self, identity: str) -> bool:
        command = ["buildah", *self._storage, "inspect", "--type", "image", "--format", "{{.FromImageID}}", identity]
        return bool(identity) and subprocess.run(command, check=False, capture_output=True).returncode == 0

    def _export(self, reference: str, archive: Path) -> None:
        unfinished = archive.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        target = f"oci-archive:{unfinished}:{reference}"
        _run(["buildah", *self._storage, "push", "--quiet", reference, target])
        unfinished.rename(archive)

    def _one_at_a_time(self) -> "_Lock":
        self._folder.mkdir(parents=True, exist_ok=True)
        return _Lock(self._folder / ".lock")


class _Lock:
    """A file lock as a context; the kernel frees it when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = self._path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def copied(containerfile: Path) -> tuple[str, ...]:
    """What a Containerfile copies from its context, as it names it."""
    told = re.findall(r"^(?:COPY|ADD) (?!.*--from=)(.+)$", containerfile.read_text(), flags=re.MULTILINE)
    named = [[word for word in line.split() if not word.startswith("--")][:-1] for line in told]
    return tuple(sorted({source for sources in named for source in sources}))


def _context_files(context: Path, sources: tuple[str, ...]) -> list[Path]:
    """What a build reads of its sources: in a checkout what git would keep, elsewhere every file."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *sources]
    listed = subprocess.run(command, cwd=context, check=False, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        names = sorted({name for name in listed.stdout.split("\0") if name})
        return [context / name for name in names if (context / name).is_file()]
    named = [context / source for source in sources]
    found = [file for one in named for file in (one, *one.rglob("*")) if file.is_file()]
    return sorted(found)


def _mode(file: Path) -> int:
    return file.lstat().st_mode & 0o111


def _program(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise ClusterFault(f"{name} is not installed: run tests/system-packages.sh cluster")
    return Path(found)


def _copy_if_other(source: Path, target: Path) -> None:
    if not target.is_file() or target.read_bytes() != source.read_bytes():
        shutil.copyfile(source, target)
        target.chmod(0o755)


def _file_name(reference: str) -> str:
    return reference.replace("/", "_").replace(":", "_")


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "BUILDAH_ISOLATION": "chroot"}
    )
    if done.returncode != 0:
        raise ClusterFault(f"`{' '.join(command)[:300]}` failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
