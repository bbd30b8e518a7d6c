# Sourced by scripts/lab: makes a Vagrant box for libvirt where none can be downloaded, and keeps it outside the tree.
# `box_ready` sets $box. All of it comes from the Debian mirrors and the package index that this machine uses already.
#
# It has what the Vagrantfile's provisioning would install, this project's dependencies included, so that its machines
# need no network. No loop device and no mount is used: mke2fs fills the file system, and GRUB's first sectors
# go where its installer would put them.

box_tools=(mmdebstrap e2fsprogs fdisk qemu-utils grub-pc-bin openssh-client)
# What vagrant and the Vagrantfile ask for, on the smallest Debian; the cloud kernel has every queue and filter.
box_packages=(linux-image-cloud-amd64 initramfs-tools zstd systemd-sysv systemd-timesyncd udev dbus ifupdown isc-dhcp-client
  openssh-server sudo rsync procps netbase ca-certificates iproute2 iputils-ping ethtool python3 python3-venv
  iperf3 irtt flent prometheus)

# What a box is made of besides Debian; the box is named after it.
box_recipe() { { cat "$root/scripts/vagrant/box.sh" && box_wanted; } | sha256sum | cut -c1-12; }

# The Python packages that installing the project takes.
box_wanted() {
  "$python" -c 'import sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))
print(*project["project"]["dependencies"], *project["build-system"]["requires"], "editables", sep="\n")' \
    "$root/pyproject.toml"
}

box_ready() {
  local lock
  prepare_venv run # whose Python reads the project file and whose pip knows where packages come from
  box=$lab_cache/vagrant-$(box_recipe).box
  [ ! -e "$box" ] || return 0
  [ "$(uname -m)" = x86_64 ] || fail 69 "the box is made for x86_64 only, this is $(uname -m)"
  [ "$(id -u)" -eq 0 ] || fail 77 "a box takes root to make: its files belong to many users"
  prepare_packages "${box_tools[@]}"
  mkdir -p "$lab_cache"
  exec {lock}>"$lab_cache/.lock-box"
  flock "$lock" # two at once: the second waits, and finds it made
  [ -e "$box" ] || box_make {lock}>&-
  exec {lock}>&-
}

box_make() (
  set -euo pipefail
  begun=$SECONDS
  scratch=$(mktemp -d -p "$lab_cache" box.XXXXXX)
  trap 'rm -rf "$scratch"' EXIT
  trap 'exit 130' INT TERM HUP
  free=$(df -Pk "$scratch" | awk 'NR == 2 { print int($4 / 1024) }')
  [ "$free" -ge 6000 ] || fail 69 "making the box takes 6 GB in $lab_cache, and there are $free MB" \
    "make room, or set XDG_CACHE_HOME"
  cd "$scratch"
  box_root
  box_dependencies
  box_own_files
  say "writing the disk ..."
  box_disk
  box_pack
  mv lab.box "$box"
  say "made $box ($(du -sh "$box" | cut -f1)) in $((SECONDS - begun)) s"
)

# box_step FILE COMMAND...: quiet, and where it fails the end of what it said
box_step() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; fail 69 "$1 failed" "mend what it says above"; }
}

# This machine's sources of Debian proper, as sources.list has them; others it may have are none of the box's.
box_sources() {
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
    sort -u
}

box_root() {
  box_sources >sources
  if [ ! -s sources ]; then
    box_step updated apt-get update
    box_sources >sources
  fi
  [ -s sources ] || fail 69 "apt has no lists of Debian's packages here" "make the box on a Debian 12 or newer"
  say "installing Debian (${#box_packages[@]} packages and what they need) ..."
  # The initial RAM disk with the two drivers that it takes to reach the disk: under emulation every megabyte counts.
  printf 'MODULES=list\n' >initramfs.conf
  printf '%s\n' virtio_pci virtio_blk ext4 >initramfs.modules
  box_step debian mmdebstrap --variant=minbase --include="${box_packages[*]}" --aptopt='APT::Install-Recommends "false"' \
    --essential-hook="mkdir -p \"\$1\"/etc/initramfs-tools/conf.d" \
    --essential-hook="copy-in $PWD/initramfs.conf /etc/initramfs-tools/conf.d/" \
    --essential-hook="upload $PWD/initramfs.modules /etc/initramfs-tools/modules" \
    --dpkgopt=path-exclude='/usr/share/doc/*' --dpkgopt=path-exclude='/usr/share/locale/*' \
    --dpkgopt=path-exclude='/usr/share/man/*' "$(. /etc/os-release && echo "$VERSION_CODENAME")" root "$PWD/sources"
}

# The project's dependencies, in the place where the Vagrantfile's `prepare_venv` looks for them: installing the project
# itself is then all that is left to an emulated processor, and it needs no network.
box_dependencies() {
  local version wanted place=/opt/shaper/.venv
  say "fetching the project's dependencies ..."
  version=$(chroot root python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  mapfile -t wanted < <(box_wanted)
  box_step fetched "$python" -m pip download --only-binary :all: --python-version "$version" --dest root/opt/wheels \
    "${wanted[@]}"
  # What builds the project is there, too: pip need not fetch it anew ("no ... = false" is how pip spells that).
  printf '[global]\nno-index = true\nfind-links = /opt/wheels\n[install]\nno-build-isolation = false\n' >root/etc/pip.conf
  mkdir -p root/opt/shaper
  box_step venv chroot root python3 -m venv "$place"
  box_step installed chroot root "$place/bin/python" -m pip install --disable-pip-version-check "${wanted[@]}"
}

# What vagrant wants of a box: its user, its key, a network; and nothing that would run beside what is measured.
box_own_files() {
  local unit
  ssh-keygen -q -t ed25519 -N '' -C 'the lab' -f key
  chroot root useradd --create-home --shell /bin/bash vagrant
  install -d -m 700 -o "$(stat -c %u root/home/vagrant)" -g "$(stat -c %g root/home/vagrant)" root/home/vagrant/.ssh
  install -m 600 -o "$(stat -c %u root/home/vagrant)" -g "$(stat -c %g root/home/vagrant)" key.pub \
    root/home/vagrant/.ssh/authorized_keys
  echo 'vagrant ALL=(ALL) NOPASSWD:ALL' >root/etc/sudoers.d/vagrant
  chmod 440 root/etc/sudoers.d/vagrant
  echo 'UseDNS no' >root/etc/ssh/sshd_config.d/lab.conf
  echo 'LABEL=root / ext4 errors=remount-ro 0 1' >root/etc/fstab
  echo lab >root/etc/hostname
  printf '127.0.0.1 localhost\n127.0.1.1 lab\n' >root/etc/hosts
  rm -f root/etc/resolv.conf && : >root/etc/resolv.conf
  printf '%s\n' 'auto lo' 'iface lo inet loopback' 'auto eth0' 'iface eth0 inet dhcp' >root/etc/network/interfaces
  mkdir -p root/var/log/journal
  for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
    e2scrub_reap.service prometheus.service irtt.service iperf3.service; do
    rm -f root/etc/systemd/system/*.wants/"$unit"
  done
}

box_disk() {
  local first=2048 megabytes=2560 grub=/usr/lib/grub/i386-pc
  mkdir -p root/boot/grub
  cat >root/boot/grub/grub.cfg <<-GRUB
	linux /boot/$(basename root/boot/vmlinuz-*) root=LABEL=root ro net.ifnames=0 no_timer_check console=ttyS0 quiet
	initrd /boot/$(basename root/boot/initrd.img-*)
	boot
	GRUB
  truncate -s "${megabytes}M" disk
  sfdisk --quiet disk <<<"start=$first, type=83, bootable"
  box_step filled mke2fs -t ext4 -L root -d root -E "offset=$((first * 512)),root_owner=0:0" disk \
    "$(((megabytes * 2048 - first) / 2))k"
  grub-mkimage -O i386-pc -o core.img -p '(hd0,msdos1)/boot/grub' biosdisk part_msdos ext2 linux normal
  [ "$(stat -c %s core.img)" -lt $(((first - 1) * 512)) ] || fail 1 "GRUB does not fit before the first partition"
  dd if="$grub/boot.img" of=disk bs=440 count=1 conv=notrunc status=none # it looks for its second part in sector 1
  dd if=core.img of=disk seek=1 conv=notrunc status=none
  box_step converted qemu-img convert -c -O qcow2 disk box.img
  rm -rf disk
}

box_pack() {
  printf '{"provider": "libvirt", "format": "qcow2", "virtual_size": 3}\n' >metadata.json
  cat >Vagrantfile <<-'RUBY'
	Vagrant.configure("2") do |config|
	  config.ssh.private_key_path = File.expand_path("key", __dir__)
	  config.ssh.insert_key = false
	end
	RUBY
  tar cf lab.box metadata.json Vagrantfile key box.img
}
