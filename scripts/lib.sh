# Sourced by scripts/demo, lab and test: sets up what they need on a bare Debian or Ubuntu, quickly where it is there.
# `prepare_packages NAME...`, then `prepare_venv run|dev`. $root is the checkout, $python that of its virtual environment.

root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd -P)
python=$root/.venv/bin/python
oldest_minor=11
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps tc and ethtool, and has no path to without root

say() { printf '%s\n' "$*" >&2; }

# fail CODE MESSAGE [WAY OUT]
fail() {
  say "error: $2"
  [ -z "${3-}" ] || say "  mend: $3"
  exit "$1"
}

# The newest Python that will do: one that can make virtual environments, else any that runs, else nothing.
find_python() {
  local minor name wanted
  for wanted in "import ensurepip, venv" "pass"; do
    for minor in $(seq 30 -1 "$oldest_minor") ""; do
      name=python3${minor:+.$minor}
      if "$name" -c "import sys; $wanted; sys.exit(sys.version_info < (3, $oldest_minor))" 2>/dev/null; then
        command -v "$name"
        return
      fi
    done
  done
}

# Whether what a Debian package brings is there.
have_package() {
  case $1 in
    iproute2) command -v ip >/dev/null && command -v tc >/dev/null ;;
    iputils-ping) command -v ping >/dev/null ;;
    nftables) command -v nft >/dev/null ;;
    xz-utils) command -v xz >/dev/null ;;
    qemu-system-x86) command -v qemu-system-x86_64 >/dev/null ;;
    virtiofsd) [ -x /usr/libexec/virtiofsd ] || [ -x /usr/lib/qemu/virtiofsd ] ;;
    llvm-14) command -v llvm-strip-14 >/dev/null ;;
    libbpf-dev) [ -e /usr/include/bpf/bpf_helpers.h ] ;;
    libc6-dev) [ -e /usr/include/stdio.h ] ;;
    *) command -v "$1" >/dev/null || [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
  esac
}

install_packages() {
  local log
  log=$(mktemp)
  say "installing $* ..."
  if ! apt "$log" install -y --no-install-recommends "$@"; then # the lists may be missing or old
    if ! { apt "$log" update && apt "$log" install -y --no-install-recommends "$@"; }; then
      tail -n 20 "$log" >&2
      rm -f "$log"
      fail 69 "apt-get could not install $*" "install them by hand and try again"
    fi
  fi
  rm -f "$log"
}

apt() {
  local log=$1
  shift
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null
}

# need_packages PACKAGE...: installs them, or says that somebody must.
need_packages() {
  [ "$(id -u)" -eq 0 ] || fail 69 "missing: $*" "as root: apt-get install $*"
  command -v apt-get >/dev/null || fail 69 "missing: $*, and there is no apt-get" "install them with this system's tools"
  install_packages "$@"
}

# Everything an installation depends on: the project file, where it lies, and the interpreter.
stamp_of() { { cat "$root/pyproject.toml" && echo "$root $(readlink -f "$python")"; } | sha256sum | cut -d' ' -f1; }

up_to_date() {
  local stamp=$root/.venv/.installed
  [ -x "$python" ] && [ -r "$stamp" ] || return 1
  case $(cat "$stamp") in
    "$(stamp_of) $1" | "$(stamp_of) dev") return 0 ;; # dev has everything that run has
    *) return 1 ;;
  esac
}

install_project() {
  local log base what=$root
  log=$(mktemp)
  if ! "$python" -c 'import pip' 2>/dev/null; then # not there, or of a Python that is gone
    base=$(find_python)
    if [ -z "$base" ]; then
      need_packages python3 python3-venv
    elif ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
      need_packages "$(basename "$base")-venv"
    fi
    base=$(find_python)
    [ -n "$base" ] || fail 69 "this system has no Python of at least 3.$oldest_minor" "install one"
    say "setting up the Python environment in $root/.venv ..."
    "$base" -m venv --clear "$root/.venv" >"$log" 2>&1 || install_failed "$log"
  fi
  [ "$1" = dev ] && what="$root[dev]"
  say "installing the project into $root/.venv ..."
  "$python" -m pip install --quiet --disable-pip-version-check --no-input -e "$what" >"$log" 2>&1 ||
    install_failed "$log"
  rm -f "$log"
  echo "$(stamp_of) $1" >"$root/.venv/.installed"
}

install_failed() {
  tail -n 20 "$1" >&2
  rm -f "$1"
  fail 69 "the Python environment could not be set up" "mend what pip says above (the first time needs a network)"
}

# Two at once: the second waits, and finds everything done.
locked() {
  local lock
  exec {lock}<"$root"
  flock "$lock"
  "$@" {lock}<&-
  exec {lock}<&-
}

install_what_is_missing() {
  local package missing=()
  for package in "$@"; do have_package "$package" || missing+=("$package"); done
  [ "${#missing[@]}" -eq 0 ] || need_packages "${missing[@]}"
}

install_what_is_old() { up_to_date "$1" || install_project "$1"; }

# prepare_packages PACKAGE...
prepare_packages() {
  local package
  for package in "$@"; do
    have_package "$package" || { locked install_what_is_missing "$@"; return; }
  done
}

# prepare_venv EXTRA: `run` or `dev`
prepare_venv() {
  up_to_date "$1" && return
  [ -w "$root" ] || fail 69 "the Python environment $root/.venv is not there, not up to date or not yours to use" \
    "run this script once as the owner of $root, or in a checkout of your own"
  locked install_what_is_old "$1"
}
