#!/usr/bin/env bash
# Set-up on a machine that has nothing: a minimal Debian with the packages that the README names, no compiler.
#
#     sudo tests/bare.sh [FOLDER]      needs root, debootstrap, 12 GB; FOLDER (default: a temporary one) is removed at the end
#
# Makes the root, copies this checkout into it, passes on the host's pip settings and certificates, and runs the demo there.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
root=${1:-$(mktemp -d)/debian}
packages=python3,python3-venv,make,ca-certificates,libegl1,libgl1,libusb-1.0-0

say() { printf '\n== %s  %s\n' "$(date +%H:%M:%S)" "$*"; }
clean() {
  mountpoint -q "$root/proc" && umount "$root/proc"
  for folder in "${shared[@]:-}"; do
    [ -z "$folder" ] || ! mountpoint -q "$root$folder" || umount "$root$folder"
  done
  rm -rf --one-file-system "$root"
}

say "a minimal root in $root"
shared=()
trap clean EXIT
debootstrap --variant=minbase --include="$packages" "${SUITE:-stable}" "$root" > /dev/null
! chroot "$root" sh -c 'command -v cc || command -v gcc || command -v c++' || { echo "a compiler is in it" >&2; exit 1; }

say "this checkout, the host's pip settings and certificates"
mkdir -p "$root/work"
git -C "$checkout" ls-files -z | tar -C "$checkout" --null -T - -cf - | tar -C "$root/work" -xf -
cp /etc/resolv.conf "$root/etc/resolv.conf"
for file in /etc/pip.conf "$HOME/.config/pip/pip.conf" /etc/ssl/certs/ca-certificates.crt; do
  [ ! -f "$file" ] || { mkdir -p "$root$(dirname "$file")"; cp -L "$file" "$root$file"; }
done
# folders of wheels on this machine that the settings name
for folder in $(pip config list 2>/dev/null | grep -oE '(file://)?/[^ '"'"']+' | sed 's#^file://##' || true); do
  [ -d "$folder" ] || continue
  top=/$(echo "$folder" | cut -d/ -f2,3)
  mountpoint -q "$root$top" || { mkdir -p "$root$top"; mount --bind -o ro "$top" "$root$top"; shared+=("$top"); }
done
mount -t proc proc "$root/proc"

say "make demo SCALE=smoke, without a compiler"
settings=$(env | grep -E '^(PIP_|SSL_CERT|REQUESTS_CA)' || true)
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 $settings \
  chroot "$root" sh -c 'cd /work && make demo SCALE=smoke CATEGORIES=puck && test -s out/demo/report.html'
say "it works on a machine that has nothing"
