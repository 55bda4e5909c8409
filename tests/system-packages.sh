#!/usr/bin/env bash
# Install what the tests need from Debian: Chromium for the dashboard, PostgreSQL for the store, Prometheus and, with `cluster` as the
# argument, also a container runtime, its network plugins, image builders and a registry for the test cluster.
# Without root it names the command instead; the tests that need them then say so and the rest runs (CI skips nothing).
set -euo pipefail
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need chromium chromium
need prometheus prometheus
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
compgen -G "/usr/lib/*/libpython3.11.so.1.0" >/dev/null || missing+=(libpython3.11) # for Triton's Python backend
fc-list 2>/dev/null | grep -qi dejavu || missing+=(fonts-dejavu-core fontconfig)
if [ "${1:-}" = cluster ]; then
  need containerd containerd
  need runc runc
  [ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
  need buildah buildah
  need iptables iptables
  need conntrack conntrack
  need ip iproute2
  { [ -x /bin/busybox ] && busybox --list | grep -qx httpd; } || missing+=(busybox-static)
  need mmdebstrap mmdebstrap
  need docker-registry docker-registry
  need openssl openssl
fi
[ ${#missing[@]} -eq 0 ] && exit 0
command="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "Installing from Debian: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  $command -qq >/dev/null
else
  echo "Some tests need ${missing[*]}. On Debian or Ubuntu: sudo $command"
  [ "${CI:-}" != "true" ]
fi
