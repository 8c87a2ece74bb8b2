#!/bin/sh
# What the benchmark needs beside Python: workerd and partyserver from npm; wrk, redis-server, strace, ss and a C compiler from Debian.
# What cannot be installed is named, and the driver goes on without it.
set -eu
cd "$(dirname "$0")"

has() { command -v "$1" >/dev/null; }

if has npm; then
    [ node_modules/.package-lock.json -nt package-lock.json ] ||
        npm install --no-save --omit=peer --ignore-scripts --no-audit --no-fund --loglevel=error
else
    echo "no npm: workerd will be skipped unless it is installed already" >&2
fi

missing=""
for program in wrk redis-server strace taskset ss cc; do
    has "$program" || missing="$missing $program"
done
packages=$(echo "$missing" | sed 's/taskset/util-linux/; s/ ss/ iproute2/; s/ cc/ gcc libc6-dev/')
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && has apt-get; then
    apt-get update -qq
    # shellcheck disable=SC2086 # a list
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
elif [ -n "$missing" ]; then
    echo "not installed:$missing. On Debian and Ubuntu: apt-get install$packages" >&2
fi
