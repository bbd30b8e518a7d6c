# Sourced by scripts/lab: fetches Debian's cloud kernel for QEMU and keeps it outside the tree, never installed.
# `cloud_ready` sets $cloud to a folder with `vmlinuz` and `lib/modules`; any that is there will do, so remove it for a
# newer one.

# The newest of these packages that apt knows, else nothing. Signed and unsigned are the same kernel.
cloud_candidate() {
  apt-cache search --names-only '^linux-image-6\.12\.[^ ]*-cloud-amd64(-unsigned)?$' 2>/dev/null | cut -d' ' -f1 |
    sort -V | tail -n 1
}

# The newest folder there is, else nothing.
cloud_fetched() {
  local found
  for found in "$lab_cache"/cloud-*; do
    if [ -e "$found/vmlinuz" ]; then echo "$found"; fi
  done | sort -V | tail -n 1
}

cloud_ready() {
  local lock
  cloud=$(cloud_fetched)
  [ -z "$cloud" ] || return 0
  mkdir -p "$lab_cache"
  exec {lock}>"$lab_cache/.lock-cloud"
  flock "$lock" # two at once: the second waits, and finds it fetched
  cloud=$(cloud_fetched)
  if [ -z "$cloud" ]; then
    cloud_fetch {lock}>&-
    cloud=$(cloud_fetched)
  fi
  exec {lock}>&-
}

cloud_fetch() (
  set -euo pipefail
  command -v apt-get dpkg-deb >/dev/null || fail 69 "the kernel for QEMU is a Debian package, and there is no apt-get" \
    "fetch it on a Debian 12 or newer and bring its $lab_cache here"
  package=$(cloud_candidate)
  if [ -z "$package" ] && [ "$(id -u)" -eq 0 ]; then
    say "updating apt's lists ..."
    apt /dev/null update || true
    package=$(cloud_candidate)
  fi
  [ -n "$package" ] || fail 69 "apt knows no package linux-image-6.12.*-cloud-amd64" "as root: apt-get update; it is in \
Debian 12's security updates, and in Debian 13"
  scratch=$(mktemp -d -p "$lab_cache" fetch.XXXXXX)
  trap 'rm -rf "$scratch"' EXIT
  trap 'exit 130' INT TERM HUP
  cd "$scratch"
  say "fetching $package (34 MB) ..."
  apt-get -qq -o APT::Sandbox::User=root download "$package" >fetched 2>&1 ||
    { tail -n 5 fetched >&2; fail 69 "the kernel for QEMU could not be fetched" "it needs a network once"; }
  dpkg-deb -x ./*.deb unpacked
  mkdir -p kernel/lib
  mv unpacked/boot/vmlinuz-* kernel/vmlinuz
  for modules in unpacked/lib/modules unpacked/usr/lib/modules; do # the latter from Debian 13 on
    [ ! -d "$modules" ] || mv "$modules" kernel/lib/
  done
  depmod -b kernel "$(ls kernel/lib/modules)"
  mv kernel "$lab_cache/cloud-$(sed 's/^linux-image-//; s/-cloud.*//' <<<"$package")"
)
