# Sourced by scripts/lab: runs a command inside the kernel that kernel.sh has fetched, in QEMU. It emulates, so that it
# needs no KVM and times mean nothing; it has what user-mode Linux has not: two processors, BTF, the BPF JIT.

lab_qemu() {
  local virtual seed out memory command
  lab_options "--out --memory" "$@"
  [ "$(uname -m)" = x86_64 ] || fail 69 "the kernel for QEMU is for x86_64 only, this is $(uname -m)"
  # A plain user's virtiofsd may not open root's files as an overlay wants them opened (O_NOATIME).
  [ "$(id -u)" -eq 0 ] || fail 77 "the lab's QEMU needs root" "as root, or take scripts/lab run, which needs none"
  prepare_packages iproute2 kmod qemu-system-x86
  prepare_packages virtiofsd # which came with QEMU in Debian 12
  cloud_ready
  # In a session of its own: QEMU heeds a terminal's signals even where the script was started to ignore them.
  lab_start "$root/scripts/qemu/init" PATH="$PATH" setsid --wait bash "$root/scripts/qemu/machine" "$cloud" "$memory"
}
