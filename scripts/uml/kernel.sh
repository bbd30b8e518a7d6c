# Sourced by scripts/lab: builds the user-mode Linux kernel of the lab and keeps it outside the tree.
# `kernel_ready` sets $kernel to a folder with `linux` and `getrandom.so`, building them where they are missing.

lab_cache=${XDG_CACHE_HOME:-$HOME/.cache}/sla-shaper
lab_source=linux-source-6.12
lab_tools=(gcc make flex bison bc patch xz-utils libc6-dev)

# What the kernel is made of besides its source; the folder of a kernel is named after both.
kernel_recipe() { cat "$lab"/config "$lab"/*.patch "$lab"/getrandom.c | sha256sum | cut -c1-12; }

# The version of the source that apt would give, else nothing.
kernel_candidate() {
  apt-cache policy "$lab_source" 2>/dev/null | sed -n 's/^ *Candidate: *//p' | grep -v '^(none)$' || true
}

# The folder of the newest kernel there is of this recipe, else nothing.
kernel_built() {
  local found
  for found in "$lab_cache"/kernel-*-"$(kernel_recipe)"; do
    if [ -x "$found/linux" ]; then echo "$found"; fi
  done | sort -V | tail -n 1
}

# kernel_ready: any kernel of this recipe will do; where there is none, one is built.
kernel_ready() {
  kernel=$(kernel_built)
  [ -n "$kernel" ] || kernel_newest
}

# kernel_newest: the kernel of the source that apt has now; one of an older source where apt knows none.
kernel_newest() {
  local version folder
  [ "$(uname -m)" = x86_64 ] || fail 69 "the full kernel is built for x86_64 only, this is $(uname -m)"
  version=$(kernel_candidate)
  if [ -z "$version" ]; then
    kernel=$(kernel_built)
    [ -z "$kernel" ] || return 0
    command -v apt-get >/dev/null || fail 69 "the kernel's source is a Debian package, and there is no apt-get" \
      "build it on a Debian 12 or newer and bring its $lab_cache here"
    [ "$(id -u)" -eq 0 ] && { say "updating apt's lists ..."; apt /dev/null update || true; version=$(kernel_candidate); }
    [ -n "$version" ] || fail 69 "apt knows no package $lab_source" "as root: apt-get update; it is in Debian 12's \
security updates, and in Debian 13"
  fi
  folder=$lab_cache/kernel-$version-$(kernel_recipe)
  if [ ! -x "$folder/linux" ]; then
    prepare_packages "${lab_tools[@]}"
    mkdir -p "$lab_cache"
    exec {lock}>"$lab_cache/.lock"
    flock "$lock" # two at once: the second waits, and finds it built
    [ -x "$folder/linux" ] || kernel_build "$version" "$folder"
    exec {lock}>&-
  fi
  kernel=$folder
}

# kernel_build VERSION FOLDER
kernel_build() (
  set -euo pipefail
  version=$1 folder=$2 begun=$SECONDS
  scratch=$(mktemp -d -p "$lab_cache" build.XXXXXX)
  trap 'rm -rf "$scratch"' EXIT
  trap 'exit 130' INT TERM HUP
  free=$(df -Pk "$scratch" | awk 'NR == 2 { print int($4 / 1024) }')
  [ "$free" -ge 2500 ] || fail 69 "building the kernel takes 2.5 GB in $lab_cache, and there are $free MB" \
    "make room, or set XDG_CACHE_HOME"
  cd "$scratch"
  say "fetching $lab_source $version (150 MB) ..."
  apt-get -qq -o APT::Sandbox::User=root download "$lab_source=$version" >fetched 2>&1 ||
    { tail -n 5 fetched >&2; fail 69 "the kernel's source could not be fetched" "it needs a network once"; }
  say "unpacking it (1.7 GB) ..."
  dpkg --fsys-tarfile ./*.deb | tar xO "./usr/src/$lab_source.tar.xz" | xz -dc -T0 | tar x
  cd "$lab_source"
  for patch in "$lab"/*.patch; do patch -s -p1 <"$patch"; done
  # Names and dates of the build are part of the random pool: constants, or every build gives other samples.
  export KBUILD_BUILD_TIMESTAMP='2026-01-01 00:00:00 UTC' KBUILD_BUILD_USER=lab KBUILD_BUILD_HOST=lab KBUILD_BUILD_VERSION=1
  say "configuring it ..."
  KCONFIG_ALLCONFIG=$lab/config make -s ARCH=um O="$scratch/build" allnoconfig >"$scratch/log" 2>&1 || kernel_failed
  if grep '^CONFIG' "$lab/config" | grep -vxFf "$scratch/build/.config" >&2; then
    fail 1 "these options of scripts/uml/config did not take effect"
  fi
  say "compiling it on $(nproc) cores (1,000 files, about 20 minutes of CPU time) ..."
  make ARCH=um O="$scratch/build" -j"$(nproc)" linux 2>&1 >"$scratch/made" | cat >"$scratch/log" &
  kernel_progress $! "$scratch/made"
  [ -x "$scratch/build/linux" ] || kernel_failed
  mkdir "$scratch/kernel"
  strip -o "$scratch/kernel/linux" "$scratch/build/linux"
  gcc -shared -fPIC -O2 -Wall -Werror -o "$scratch/kernel/getrandom.so" "$lab/getrandom.c"
  mv "$scratch/kernel" "$folder"
  say "built $folder ($(du -sh "$folder" | cut -f1)) in $((SECONDS - begun)) s"
)

kernel_failed() {
  grep -E 'error|Error' "$scratch/log" >&2 || tail -n 20 "$scratch/log" >&2
  fail 1 "the kernel could not be built"
}

# kernel_progress PID FILE: how many files are compiled, until the process has ended
kernel_progress() {
  local last=0 count
  while kill -0 "$1" 2>/dev/null; do
    sleep 2
    count=$(grep -c '^  CC ' "$2" || true)
    if [ -t 2 ]; then
      printf '\r  %s files' "$count" >&2
    elif [ $((count - last)) -ge 300 ]; then
      say "  $count files"
      last=$count
    fi
  done
  [ ! -t 2 ] || echo >&2
  wait "$1" || true
}
