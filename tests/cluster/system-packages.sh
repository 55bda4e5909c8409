#!/usr/bin/env bash
# Install what the test cluster needs from Debian: a container runtime, its network plugins, image builders, a registry.
# Without root it names the command instead; the cluster's tests then say so and are skipped (CI skips nothing).
set -euo pipefail
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need containerd containerd
need runc runc
[ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
need buildah buildah
need iptables iptables
need conntrack conntrack
need ip iproute2
[ -x /bin/busybox ] && busybox --list | grep -qx httpd || missing+=(busybox-static)
need mmdebstrap mmdebstrap
need docker-registry docker-registry
need openssl openssl
[ ${#missing[@]} -eq 0 ] && exit 0
command="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "Installing from Debian: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  $command -qq >/dev/null
else
  echo "The test cluster needs ${missing[*]}. On Debian or Ubuntu: sudo $command"
  [ "${CI:-}" != "true" ]
fi
