# Sourced by scripts/lab: runs a command inside the kernel that kernel.sh has built.
#
# Its command line and environment hold constants only: the kernel mixes them into its random pool, and other paths would
# be other packets.

lab_run() {
  local virtual seed out memory command core still
  lab_options "--virtual-time --seed --out --memory" "$@"
  kernel_ready
  prepare_packages iproute2
  lab_choose_core
  # At random addresses the machine would have some megabytes more or less, its buffers be other ones, and now and then a
  # packet come a microsecond later.
  still=(setarch --addr-no-randomize)
  "${still[@]}" true 2>/dev/null || {
    still=()
    [ -z "$virtual" ] || say "this system does not let programs run at fixed addresses (personality(2), as in some \
containers): figures in virtual time may differ by microseconds from run to run"
  }
  # shellcheck disable=SC2086 # $virtual is two words
  lab_start "$lab/init" LAB_SEED="$seed" ${virtual:+LD_PRELOAD="$kernel/getrandom.so"} \
    "${still[@]}" taskset -c "$core" "$kernel/linux" \
    mem="$memory" root=/dev/root rootfstype=hostfs hostfs=/ ro init=/run/lab/init \
    con=null con0=null,fd:3 con1=null,fd:4 console=stderr0 uml_dir=/run/scratch umid=lab quiet loglevel=1 panic=-1 $virtual
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
