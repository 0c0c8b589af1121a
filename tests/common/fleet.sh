#!/bin/sh
# Hosts of a test on one machine: each with its own network, mounts, processes and name, on a switch that only these have. Usage, as root:
#   fleet.sh up FOLDER     FOLDER/hosts lists the hosts, one a line; FOLDER/wires who is plugged in where: lines `HOST SWITCH ADDRESS/BITS`.
#                          Stays until its standard input ends; then everything is gone.
# FOLDER/all/ is copied over the root of each host, FOLDER/only/HOST/ over that of this one; then /etc/rc of the host is run, by its first
# process, and makes /run/up. FOLDER/pid/HOST has the id of that process, as the machine numbers it. The root of a host is the machine's
# with a layer of its own in memory on top: a host can write where it likes, and the machine stays as it is.
set -eu

main=$0 step=$1 folder=$2

# 1: namespaces for the whole. The process that is first in them ends with our standard input, and all others with it.
up() {
    exec unshare --mount --propagation private --net --pid --fork --kill-child sh "$main" switches "$folder"
}

# 2: switches and wires, then the hosts. /proc stays the machine's here, so that process ids are those of the machine.
switches() {
    mount -t tmpfs -o mode=755 none "$folder/layers"
    mkdir -p /run/netns
    mount -t tmpfs -o mode=755 none /run/netns
    ip link set lo up
    {
        cut -d' ' -f2 "$folder/wires" | sort -u | while read -r switch; do
            echo "link add $switch type bridge"
            echo "link set $switch up"
        done
        while read -r host; do echo "netns add $host"; done <"$folder/hosts"
        number=0
        while read -r host switch address; do
            number=$((number + 1))
            echo "link add wire$number type veth peer name $switch netns $host"
            echo "link set wire$number master $switch"
            echo "link set wire$number up"
        done <"$folder/wires"
    } >"$folder/layers/batch"
    ip -batch "$folder/layers/batch"
    while read -r host; do
        nsenter --net="/run/netns/$host" unshare --mount --propagation private --uts --ipc --pid --fork sh "$main" host "$folder" "$host" </dev/null &
    done <"$folder/hosts"
    # The other end is the test's: it ends when the test does, however that ends.
    cat >/dev/null
}

# 3: one host, up to its first process.
host() {
    host=$3
    read -r pid _ </proc/self/stat
    hostname "$host"
    ip link set lo up
    while read -r name switch address; do
        [ "$name" = "$host" ] || continue
        ip address add "$address" dev "$switch"
        ip link set "$switch" up
    done <"$folder/wires"

    layer=$folder/layers/$host
    mkdir -p "$layer/upper" "$layer/work" "$layer/root"
    mount -t overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" none "$layer/root"
    cd "$layer/root"
    mount -t proc none proc
    mount -t sysfs -o ro none sys
    mount -t tmpfs -o mode=755,nosuid none dev
    for device in null zero full random urandom tty; do
        : >"dev/$device"
        mount --bind "/dev/$device" "dev/$device"
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 none dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    for empty in run tmp var/tmp var/log srv home root etc/rex etc/ssh; do
        mkdir -p "$empty"
        mount -t tmpfs -o mode=755,nodev none "$empty"
    done
    chmod 1777 tmp var/tmp
    mkdir run/sshd run/lock
    # The program under test, without copying it.
    rm -f usr/bin/rex
    : >usr/bin/rex
    mount --bind "$folder/rex" usr/bin/rex
    cp -a "$folder/all/." .
    [ ! -d "$folder/only/$host" ] || cp -a "$folder/only/$host/." .
    mkdir old
    echo "$pid" >"$folder/pid/$host.new"
    mv "$folder/pid/$host.new" "$folder/pid/$host"
    pivot_root . old
    exec /bin/sh -c 'umount -l /old && rmdir /old && . /etc/rc' >/run/rc.log 2>&1
}

"$step" "$@"
