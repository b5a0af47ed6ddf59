#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what the tests need on Debian 12 or newer (amd64), as root:
#   1. packages by apt, of which no daemon is started, now or at the next boot
#   2. Debian 12's kernel, unpacked into a cache for test/vm; never installed
# With everything in place it does nothing and needs no network.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

packages=(
	clang-19 llvm-19                           # make generate
	gcc libc6-dev                              # make race: the detector is linked by cgo
	nftables conntrack iproute2 iputils-ping   # rulesets and probes in the tests' namespaces
	tcpdump tshark iperf3                      # oracles: what is on the wire, and how much
	keepalived conntrackd                      # the pair of today, for comparison
	frr                                        # its vrrpd, to elect with: test/interop
	qemu-system-x86 kmod xz-utils              # test/vm: Linux 6.1 with its modules
	git ca-certificates
)
daemons=(keepalived conntrackd nftables iperf3 frr)

say() { printf 'deps: %s\n' "$*"; }

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Debian's package scripts ask policy-rc.d before they start a daemon; 101 says no.
# What stood there is kept beside it, so that a run that was killed heals at the next.
policy=/usr/sbin/policy-rc.d
policy_restore() {
	if [ -e "$policy.before-tandem" ] || [ -L "$policy.before-tandem" ]; then
		mv -f "$policy.before-tandem" "$policy"
	elif grep -qs 'tandem: make deps' "$policy"; then
		rm -f "$policy"
	fi
}
policy_forbid() {
	policy_restore
	if [ -e "$policy" ] || [ -L "$policy" ]; then mv "$policy" "$policy.before-tandem"; fi
	printf '#!/bin/sh\n# tandem: make deps\nexit 101\n' >"$policy"
	chmod 755 "$policy"
}

# A daemon that this run brought must not start at boot either; one that the
# machine had before keeps its setting.
keep_from_boot() {
	if command -v systemctl >/dev/null; then
		systemctl disable "$1" >/dev/null 2>&1 || true
	elif [ -e "/etc/init.d/$1" ]; then
		update-rc.d "$1" disable >/dev/null 2>&1 || true
	fi
}

install_packages() {
	local missing=() fresh=() p log
	for p in "${packages[@]}"; do installed "$p" || missing+=("$p"); done
	say "needed: ${packages[*]}"
	if [ ${#missing[@]} = 0 ]; then
		say "all of them are installed"
		return
	fi
	say "to install: ${missing[*]} (and what they depend on, without recommended packages)"
	for p in "${daemons[@]}"; do
		if [[ " ${missing[*]} " == *" $p "* ]]; then fresh+=("$p"); fi
	done
	trap policy_restore EXIT
	trap 'exit 130' INT TERM
	policy_forbid
	# A foreign source that does not answer is no reason to stop: install decides.
	apt-get -qq update || say "apt-get update had errors; going on with the lists at hand"
	log=$(mktemp)
	apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "${missing[@]}" >"$log" 2>&1 </dev/null || {
		cat "$log" >&2
		echo "deps: apt-get failed: see above; all that it said is in $log" >&2
		exit 1
	}
	rm -f "$log"
	policy_restore
	for p in "${fresh[@]}"; do keep_from_boot "$p"; done
	say "installed; not started, and not to be started at boot: ${fresh[*]:-(no daemon among them)}"
}

# The kernel that tandem must still run on. Its package is unpacked only: /boot,
# the boot loader and this machine's modules are left alone.
suite=bookworm
kernel=${TANDEM_TEST_CACHE:-/var/cache/tandem-test}/linux-6.1

fetch_kernel() {
	if [ -e "$kernel/vmlinuz" ]; then
		say "Linux 6.1 for test/vm: $(cat "$kernel/version") is in $kernel"
		return
	fi
	local tmp opts=() image release
	mkdir -p "$(dirname "$kernel")"
	tmp=$(mktemp -d "$kernel.XXXXXX")
	chmod 755 "$tmp"
	# shellcheck disable=SC2064 # the value of now is meant
	trap "rm -rf '$tmp'" EXIT
	if [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" != "$suite" ]; then
		# Newer Debians carry newer kernels: read this suite's lists beside the machine's own.
		mkdir -p "$tmp/apt/lists/partial"
		printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://%s main\n' \
			"deb.debian.org/debian $suite" "deb.debian.org/debian-security $suite-security" >"$tmp/apt/sources.list"
		opts=(-o "Dir::Etc::SourceList=$tmp/apt/sources.list" -o Dir::Etc::SourceParts=/nonexistent
			-o "Dir::State::Lists=$tmp/apt/lists" -o "Dir::Cache::PkgCache=" -o "Dir::Cache::SrcPkgCache=" -o APT::Sandbox::User=root)
		apt-get "${opts[@]}" -qq update
	elif [ -z "$(apt-cache search --names-only '^linux-image-amd64$')" ]; then
		apt-get -qq update || say "apt-get update had errors; going on with the lists at hand"
	fi
	image=$(apt-cache "${opts[@]}" depends linux-image-amd64 | awk '/Depends: linux-image-6\.1\./ { print $2; exit }')
	[ -n "$image" ] || { echo "deps: no package linux-image-6.1.* in the lists of Debian $suite" >&2; exit 1; }
	say "Linux 6.1 for test/vm: downloading $image (70 MB), unpacked into $kernel, not installed"
	(cd "$tmp" && apt-get "${opts[@]}" -qq -o APT::Sandbox::User=root download "$image")
	release=${image#linux-image-}
	dpkg-deb --fsys-tarfile "$tmp/$image"_*.deb | tar -x -C "$tmp" --wildcards \
		--exclude='*/drivers/net/wireless' --exclude='*/drivers/net/ethernet' \
		./boot './lib/modules/*/modules.*' './lib/modules/*/kernel/net' './lib/modules/*/kernel/drivers/net' \
		'./lib/modules/*/kernel/lib' './lib/modules/*/kernel/crypto' './lib/modules/*/kernel/arch/x86/crypto'
	depmod -b "$tmp" "$release"
	mv "$tmp/boot/vmlinuz-$release" "$tmp/vmlinuz"
	echo "$release" >"$tmp/version"
	rm -rf "${tmp:?}"/{*.deb,apt,boot}
	mv "$tmp" "$kernel"
	trap - EXIT
}

[ "$(id -u)" = 0 ] || { echo "deps: needs root" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "deps: this is not Debian: install by hand: ${packages[*]}" >&2; exit 1; }
[ "$(dpkg --print-architecture)" = amd64 ] || { echo "deps: only amd64 is supported by test/vm" >&2; exit 1; }
install_packages
fetch_kernel
say "done"
