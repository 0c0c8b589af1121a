#!/bin/sh
# A systemd of its own for a test: PID 1 of fresh namespaces, with journald, D-Bus and a few services. Usage, as root:
#   systemd.sh boot FOLDER      boots and stays until that systemd ends; FOLDER/pid holds its process id as the host sees it
# FOLDER/units/* become unit files of the test. Everything systemd writes at boot lies on file systems that only these
# namespaces have: a systemd without its own /tmp, /run, /var/tmp and /var/log would tidy up those of the machine.
set -eu

main=$0 step=$1 folder=$2
group=$folder/cgroup/rex-test-systemd-$$

# 1: mount namespace. Stays outside the new pid namespace, to clear away the control group afterwards.
boot() {
    [ "${REX_TEST_PRIVATE_MOUNTS:-}" = yes ] || REX_TEST_PRIVATE_MOUNTS=yes exec unshare --mount --propagation private sh "$main" boot "$folder"
    mkdir -p "$folder/cgroup"
    mount -t cgroup2 none "$folder/cgroup"
    mkdir "$group"
    # A group can only be entered before the namespace that hides what is above it.
    sh -c 'echo 0 >"$1/cgroup.procs"; exec unshare --pid --uts --ipc --cgroup --mount --propagation private --fork --kill-child sh "$2" inside "$3"' \
        - "$group" "$main" "$folder" </dev/null || true
    # The last of its processes may still be ending.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
        [ -d "$group" ] || break
        sleep 0.2
    done
}

# 2: PID 1 of the namespaces, still a shell: mounts first, systemd last.
inside() {
    read -r pid _ </proc/self/stat # the old /proc still shows the host's numbers; a redirection, so that `self` is this shell
    mount -t proc none /proc
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    [ ! -e /proc/sysrq-trigger ] || mount --bind /dev/null /proc/sysrq-trigger

    # Before any of these is covered: all of them private copies or empty.
    fresh=$folder/fresh
    mkdir -p "$fresh"
    mount -t tmpfs -o mode=755 none "$fresh"
    mkdir "$fresh/etc" "$fresh/dev" "$fresh/units"
    # Accounts of other tests come and go, and with them the files beside /etc/passwd that useradd writes.
    cp -a /etc/. "$fresh/etc/" 2>/dev/null || cp -a /etc/. "$fresh/etc/" 2>/dev/null || cp -a /etc/. "$fresh/etc/" 2>/dev/null || cp -a /etc/. "$fresh/etc/"
    rm -rf "$fresh/etc/systemd/system" "$fresh/etc/systemd/system-generators" "$fresh/etc/init.d" "$fresh/etc"/rc?.d
    mkdir -p "$fresh/etc/systemd/system" "$fresh/etc/systemd/journald.conf.d"
    head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$fresh/etc/machine-id"
    printf '[Journal]\nReadKMsg=no\nStorage=volatile\nForwardToSyslog=no\nRateLimitIntervalSec=0\n' >"$fresh/etc/systemd/journald.conf.d/test.conf"
    echo rex-test >"$fresh/etc/hostname"

    # The distribution's units: only those that a test needs. All others do not exist here.
    units=/usr/lib/systemd/system
    [ -d $units ] || units=/lib/systemd/system
    for unit in basic.target sysinit.target sockets.target paths.target timers.target slices.target multi-user.target shutdown.target umount.target final.target \
        local-fs.target local-fs-pre.target swap.target poweroff.target reboot.target halt.target exit.target emergency.target rescue.target network.target time-set.target \
        time-sync.target remote-fs.target nss-user-lookup.target system.slice user.slice systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket \
        systemd-poweroff.service systemd-reboot.service systemd-halt.service systemd-exit.service dbus.service dbus.socket; do
        [ ! -e "$units/$unit" ] || cp "$units/$unit" "$fresh/units/"
    done
    mkdir -p "$fresh/units/sockets.target.wants" "$fresh/units/sysinit.target.wants" "$fresh/units/multi-user.target.wants"
    ln -s ../systemd-journald.socket ../systemd-journald-dev-log.socket ../dbus.socket "$fresh/units/sockets.target.wants/"
    ln -s ../systemd-journald.service "$fresh/units/sysinit.target.wants/"
    ln -s ../dbus.service "$fresh/units/multi-user.target.wants/"
    ln -s multi-user.target "$fresh/units/default.target"
    for unit in "$folder"/units/*; do
        [ ! -e "$unit" ] || cp "$unit" "$fresh/etc/systemd/system/"
    done

    # Where the test changes the machine itself: programs, homes and what packages keep are its own too, and polkit decides who may what.
    if [ -e "$folder/whole" ]; then
        cp "$units/polkit.service" "$fresh/units/"
        mount -t tmpfs -o mode=755 none /home
        mount -t tmpfs -o mode=700 none /root
        for place in usr/bin var/lib var/cache; do
            name=$(echo $place | tr / -)
            mkdir "$fresh/$name-upper" "$fresh/$name-work"
            mount -t overlay -o "lowerdir=/$place,upperdir=$fresh/$name-upper,workdir=$fresh/$name-work" none "/$place"
        done
        rm -rf /var/lib/rex-setup /var/lib/rex /var/cache/rex /usr/bin/rex /usr/bin/rexsh "$fresh/etc/rex"
        for mine in /usr/bin /home /root /var/lib /var/cache; do
            mountpoint -q $mine || { echo "$mine is not a mount of the test" >&2; exit 1; }
        done
    fi

    # Devices: the harmless ones, and no /dev/log or /dev/kmsg of the machine.
    for device in null zero full random urandom tty; do
        : >"$fresh/dev/$device"
        mount --bind "/dev/$device" "$fresh/dev/$device"
    done
    mkdir "$fresh/dev/pts" "$fresh/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 none "$fresh/dev/pts"
    ln -s pts/ptmx "$fresh/dev/ptmx"
    ln -s /proc/self/fd "$fresh/dev/fd"
    : >"$fresh/dev/console"
    mount --bind /dev/null "$fresh/dev/console"

    mount --rbind "$fresh/dev" /dev
    mount --bind "$fresh/etc" /etc
    mount --bind "$fresh/units" "$units"
    for generators in /usr/lib/systemd/system-generators /usr/lib/systemd/system-environment-generators; do
        [ ! -d $generators ] || mount -t tmpfs none $generators
    done
    mount -o remount,bind,ro /sys || true
    mount -t cgroup2 none /sys/fs/cgroup
    umount "$folder/cgroup"
    for empty in /run /tmp /var/tmp /var/log /var/lib/systemd; do
        [ ! -d $empty ] || mount -t tmpfs -o mode=755,nodev none $empty
    done
    chmod 1777 /tmp /var/tmp
    mkdir -p /run/lock
    # No step further on the machine's own folders, whatever went wrong above.
    for mine in /run /tmp /var/tmp /var/log /etc /dev; do
        [ "$(stat -f -c %T $mine)" = tmpfs ] && mountpoint -q $mine || { echo "$mine is not a mount of the test" >&2; exit 1; }
    done
    hostname rex-test 2>/dev/null || true
    echo "$pid" >"$folder/pid.new"
    mv "$folder/pid.new" "$folder/pid"
    init=/usr/lib/systemd/systemd
    [ -x $init ] || init=/lib/systemd/systemd
    exec env -i container=rex-test PATH=/usr/sbin:/usr/bin:/sbin:/bin $init --system --log-target=journal --show-status=no
}

"$step"
