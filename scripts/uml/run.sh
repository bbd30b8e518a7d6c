# Sourced by scripts/lab: runs a command inside the kernel that kernel.sh has built.
#
# The machine is a process tree in mount and process namespaces of its own, so ending the first process ends all of it
# and every mount, the scratch memory included, goes with it. Its command line holds constants only: the kernel mixes it
# into its random pool, and other paths would be other packets.

lab_run() {
  local virtual='' seed=1 out='' memory=1G
  while [ $# -gt 0 ]; do
    case $1 in
      --virtual-time) virtual='time-travel=inf-cpu time-travel-start=1700000000000000000'; shift ;;
      --seed) seed=${2-}; shift 2 || usage ;;
      --out) out=${2-}; shift 2 || usage ;;
      --memory) memory=${2-}; shift 2 || usage ;;
      --) shift; break ;;
      *) usage ;;
    esac
  done
  [ $# -gt 0 ] || usage
  [[ $seed =~ ^[0-9]{1,18}$ ]] || fail 64 "--seed takes a whole number"
  [[ $memory =~ ^[0-9]+[MG]$ ]] || fail 64 "--memory takes a size such as 512M or 1G"
  kernel_ready
  prepare_packages iproute2
  lab_start "$@"
}

# lab_start COMMAND...: with the variables of lab_run
lab_start() {
  local work core code=0
  work=$(mktemp -d)
  mkdir "$work/scratch" "$work/out" "$work/run"
  if [ -n "$out" ]; then mkdir -p "$out" && out=$(readlink -f "$out"); else out=$work/out; fi
  cp "$lab/init" "$work/init"
  pwd -P >"$work/folder"
  printf '%s\0' "$@" >"$work/command"
  trap 'lab_end; rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP

  lab_choose_core
  local own=(--mount --pid --fork --kill-child)
  [ "$(id -u)" -eq 0 ] || own+=(--map-root-user)
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare "${own[@]}" bash -ec '
    work=$1 out=$2 stage=$1/run; shift 2
    mount -t tmpfs -o mode=755 tmpfs "$stage"
    mkdir "$stage/lab" "$stage/out" "$stage/scratch"
    mount --bind "$work" "$stage/lab"
    mount --bind "$out" "$stage/out"
    mount -n --move "$stage" /run
    exec 3>&1 4>&2 >>/run/lab/kernel.log 2>&1
    "$@" && exit; exit $?' lab "$work" "$out" \
    env -i TMPDIR=/run/scratch HOME=/run/scratch LAB_SEED="$seed" ${virtual:+LD_PRELOAD="$kernel/getrandom.so"} \
    taskset -c "$core" "$kernel/linux" \
    mem="$memory" root=/dev/root rootfstype=hostfs hostfs=/ ro init=/run/lab/init \
    con=null con0=null,fd:3 con1=null,fd:4 console=stderr0 uml_dir=/run/scratch umid=lab quiet loglevel=1 panic=-1 $virtual </dev/null &
  lab_process=$!
  wait "$lab_process" || code=$?
  lab_process=
  if [ ! -s "$work/code" ]; then
    [ ! -s "$work/kernel.log" ] || sed "/^Stack:/,\$d" "$work/kernel.log" | tail -n 20 >&2
    fail 125 "the kernel ended before the command did (exit $code)"
  fi
  exit "$(cat "$work/code")"
}

lab_end() {
  [ -n "${lab_process-}" ] || return 0
  kill -KILL "$lab_process" 2>/dev/null || true # --kill-child ends the rest
  wait "$lab_process" 2>/dev/null || true
}

# Sets $core to one of those that we may use, and to one where no other machine runs if there is such: the machine has one
# processor, and moved between two it is 3 to 4 times slower. The lock is the machine's as long as it runs.
lab_choose_core() {
  local part cores=() lock
  for part in $(sed -n 's/^Cpus_allowed_list:\s*//p' /proc/self/status | tr , ' '); do
    mapfile -t -O "${#cores[@]}" cores < <(seq "${part%-*}" "${part#*-}")
  done
  for core in "${cores[@]}"; do
    [ -w "$lab_cache" ] || break
    exec {lock}>"$lab_cache/.core-$core"
    flock -n "$lock" && return
    exec {lock}>&-
  done
  core=${cores[$((RANDOM % ${#cores[@]}))]}
}
