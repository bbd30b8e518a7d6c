# Sourced by the first process inside a machine of the lab (uml/init, qemu/init): a writable, forgetful layer over the
# host's files, the command of /run/lab in it, and the machine switched off. The exit code is left in /run/lab/code.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 TERM=dumb HOME=/run/home

# The layer, with all that a system has mounted, and the current folder in it. run/lab and run/out are the caller's.
lay_over() {
  mount -t tmpfs tmpfs /tmp
  mkdir /tmp/{upper,work,root}
  mount -t overlay lab -o nosuid,lowerdir=/,upperdir=/tmp/upper,workdir=/tmp/work /tmp/root
  cd /tmp/root
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t bpf bpf sys/fs/bpf
  mount -t devtmpfs devtmpfs dev
  mkdir -p dev/pts dev/shm
  mount -t devpts devpts dev/pts
  mount -t tmpfs tmpfs dev/shm
  for fd in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -sfn "${fd#*:}" "dev/${fd%%:*}"; done
  mount -t tmpfs tmpfs run
  mkdir run/home run/lab run/out run/netns
}

# The layer becomes the root, and the first process begins again there.
enter_layer() {
  mount -n --move . /
  exec chroot . /run/lab/init inside
}

# run_command TIER: LAB_KERNEL tells the command where it is
run_command() {
  cd /
  echo 2 >/proc/sys/net/core/fb_tunnels_only_for_init_net # a new namespace has its loopback and nothing else
  ip link set lo up
  mapfile -t -d '' command </run/lab/command
  (cd "$(</run/lab/folder)" && exec env -i PATH="$PATH" HOME="$HOME" LC_ALL="$LC_ALL" TERM=dumb LAB_OUT=/run/out \
    LAB_KERNEL="$1" "${command[@]}")
  code=$?
  echo "$code" >/run/lab/code
  sync
  # reboot(2), RB_POWER_OFF: there is no init system to ask
  exec perl -e 'syscall(169, 0xfee1dead, 672274793, 0x4321fedc, 0)'
}

# use_consoles OUTPUT ERRORS: the machine's own output is kept apart; there is no console to inherit
use_consoles() {
  exec </dev/null >"$1" 2>"$2"
  stty -F "$1" raw -echo
  stty -F "$2" raw -echo
}
