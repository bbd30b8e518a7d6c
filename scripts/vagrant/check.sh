# Sourced by scripts/lab: brings the Vagrantfile's machines up for real and judges what they do (check.py).
#
# It has a libvirt of its own, in mount, process and network namespaces of its own: no bridge, machine, volume or box of
# this system's is touched, and all of it is gone with the first process in there.

check_tools=(vagrant vagrant-libvirt libvirt-daemon-system libvirt-clients libvirt-daemon-driver-qemu dnsmasq-base iptables
  qemu-system-x86 rsync openssh-client iproute2)

vagrant_check() {
  local work code=0
  [ "$(id -u)" -eq 0 ] || fail 77 "the check needs root, for a libvirt of its own"
  prepare_packages "${check_tools[@]}"
  box_ready
  work=$(mktemp -d)
  mkdir "$work/run" "$work/home" "$work/libvirt" "$work/etc" "$work/cache" "$work/log"
  trap 'lab_end; rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
  unshare --mount --net --pid --fork --kill-child --mount-proc env -i PATH="$PATH" HOME="$work/home" LC_ALL=C.UTF-8 \
    TERM=dumb SHAPER_DRIVER="${SHAPER_DRIVER:-qemu}" SHAPER_SITES="${SHAPER_SITES:-1}" SHAPER_BOX=shaper-lab \
    VAGRANT_DEFAULT_PROVIDER=libvirt VAGRANT_DOTFILE_PATH="$work/home/dot" \
    bash "$root/scripts/vagrant/private" "$work" "$python" "$root/scripts/vagrant/check.py" "$box" </dev/null &
  lab_process=$!
  wait "$lab_process" || code=$?
  lab_process=
  exit "$code"
}
