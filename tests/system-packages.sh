#!/usr/bin/env bash
# Install what the tests need from Debian: Chromium for the dashboard, PostgreSQL for the store.
# Without root it names the command instead; the tests that need them then say so and the rest runs (CI skips nothing).
set -euo pipefail
missing=()
[ -x /usr/bin/chromium ] || missing+=(chromium)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
fc-list 2>/dev/null | grep -qi dejavu || missing+=(fonts-dejavu-core fontconfig)
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
