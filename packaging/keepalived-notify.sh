#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What keepalived calls when its instance changes state: tandem then takes the
# connections over, or lets them go. It replaces conntrackd's primary-backup.sh.
# In keepalived.conf of both routers:
#
#   global_defs {
#       script_user root
#       enable_script_security
#   }
#   vrrp_instance MAIN {
#       ...
#       virtual_ipaddress {
#           10.0.0.1/24 dev eth0
#           203.0.113.1/24 dev eth1
#       }
#       track_interface {
#           eth1
#       }
#       notify /usr/lib/tandem/keepalived-notify.sh
#   }
#
# One instance with all addresses, so that they move at once. With several in a
# sync group the notify line belongs into the group, and into it alone: each word
# is for the whole router. In tandem.toml failover-mechanism.external = true, and
# the virtual addresses in failover-mechanism.address.
#
# keepalived gives: GROUP or INSTANCE, its name, the state, the priority. Both
# commands may be called again at any time, and the later word counts.
set -eu

name=$2
state=$3

case $state in
MASTER) word=takeover ;;
BACKUP | FAULT | STOP | DELETED) word=yield ;;
*)
	echo "keepalived-notify: state $state of $name is unknown" >&2
	exit 1
	;;
esac

exec tandem "$word" --reason "keepalived: $name is $state" ${TANDEM_SOCKET:+--socket "$TANDEM_SOCKET"}
