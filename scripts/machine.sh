# Sourced by scripts/lab: what it takes to run a command in a machine, whichever kernel the machine has.
#
# The machine is a process tree in mount and process namespaces of its own, so ending the first process ends all of it
# and every mount, the scratch memory included, goes with it.

# lab_options ALLOWED ARGUMENTS...: sets virtual, seed, out, memory and command; ALLOWED are the options of this machine
lab_options() {
  local allowed=" $1 "
  shift
  virtual='' seed=1 out='' memory=1G
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    [[ $allowed == *" $1 "* ]] || usage
    case $1 in
      --virtual-time) virtual='time-travel=inf-cpu time-travel-start=1700000000000000000'; shift ;;
      --seed) seed=${2-}; shift 2 || usage ;;
      --out) out=${2-}; shift 2 || usage ;;
      --memory) memory=${2-}; shift 2 || usage ;;
    esac
  done
  [ $# -gt 1 ] || usage
  command=("${@:2}")
  [[ $seed =~ ^[0-9]{1,18}$ ]] || fail 64 "--seed takes a whole number"
  [[ $memory =~ ^[0-9]+[MG]$ ]] || fail 64 "--memory takes a size such as 512M or 1G"
}

# lab_start INIT MACHINE...: runs $command in the machine whose first process is INIT, started by MACHINE in the
# namespaces, with its results in $out and the command's output on the descriptors 3 and 4
lab_start() {
  local init=$1 work code=0
  shift
  work=$(mktemp -d)
  mkdir "$work/scratch" "$work/out" "$work/run"
  if [ -n "$out" ]; then mkdir -p "$out" && out=$(readlink -f "$out"); else out=$work/out; fi
  cp "$init" "$work/init"
  cp "$root/scripts/inside.sh" "$work"
  pwd -P >"$work/folder"
  printf '%s\0' "${command[@]}" >"$work/command"
  trap 'lab_end; rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP

  local own=(--mount --pid --fork --kill-child)
  [ "$(id -u)" -eq 0 ] || own+=(--map-root-user)
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare "${own[@]}" bash -ec '
    work=$1 out=$2 root=$3 stage=$1/run; shift 3
    mount -t tmpfs -o mode=755 tmpfs "$stage"
    mkdir "$stage/lab" "$stage/out" "$stage/scratch" "$stage/checkout"
    mount --bind "$work" "$stage/lab"
    mount --bind "$root" "$stage/checkout"
    mount --bind "$out" "$stage/out"
    mount -n --move "$stage" /run
    exec 3>&1 4>&2 >>/run/lab/kernel.log 2>&1
    "$@" && exit; exit $?' lab "$work" "$out" "$root" env -i TMPDIR=/run/scratch HOME=/run/scratch "$@" </dev/null &
  lab_process=$!
  wait "$lab_process" || code=$?
  lab_process=
  if [ ! -s "$work/code" ]; then
    [ ! -s "$work/kernel.log" ] || sed "/^Stack:/,\$d; /Call Trace:/,\$d" "$work/kernel.log" | tail -n 20 >&2
    fail 125 "the kernel ended before the command did (exit $code)"
  fi
  exit "$(cat "$work/code")"
}

lab_end() {
  [ -n "${lab_process-}" ] || return 0
  kill -KILL "$lab_process" 2>/dev/null || true # --kill-child ends the rest
  wait "$lab_process" 2>/dev/null || true
}
