#!/bin/sh
# Starts a program in a container's root without docker, as docker run --read-only --cap-drop ALL --security-opt no-new-privileges would. Usage, as root:
#   container.sh ROOT VOLUMES PROGRAM ARGUMENT...
# VOLUMES/pid holds its process id as the host sees it. VOLUMES/etc is /etc/rex, for reading; VOLUMES/state and VOLUMES/records are /var/lib/rex and /var/log/rex. The program is PID 1, of the account 65532.
set -eu
if [ "${REX_TEST_INSIDE:-}" != yes ]; then
    REX_TEST_INSIDE=yes exec unshare --mount --propagation private --pid --uts --ipc --fork --kill-child sh "$0" "$@"
fi
root=$1 volumes=$2
shift 2
read -r pid _ </proc/self/stat # the old /proc still shows the host's numbers
echo "$pid" >"$volumes/pid"
mount --bind "$root" "$root"
mount --bind "$volumes/state" "$root/var/lib/rex"
mount --bind "$volumes/records" "$root/var/log/rex"
mount --bind "$volumes/etc" "$root/etc/rex"
mount -t proc -o nosuid,nodev,noexec none "$root/proc"
mount -t tmpfs -o mode=755,nosuid none "$root/dev"
for device in null zero full random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
for closed in "" /etc/rex /dev; do mount -o remount,bind,ro "$root$closed"; done
unset REX_TEST_INSIDE
exec env -i setpriv --no-new-privs unshare --root="$root" --wd=/ --setgid 65532 --setuid 65532 -- "$@"
