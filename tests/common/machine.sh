#!/bin/sh
# A Debian of its own for a test: a private copy of a root folder in namespaces of its own, without an init. Usage, as root:
#   machine.sh boot BASE FOLDER     stays until it is killed; FOLDER/pid holds the process id, as the host sees it, of a process inside
# BASE is not changed: what is written lies in memory, and goes with the last process. FOLDER/shared is /mnt inside.
set -eu

main=$0 step=$1 base=$2 folder=$3

boot() {
    exec unshare --mount --propagation private --pid --uts --ipc --fork --kill-child sh "$main" inside "$base" "$folder"
}

inside() {
    read -r pid _ </proc/self/stat # the old /proc still shows the host's numbers
    root=$folder/root
    mkdir -p "$folder/memory" "$root" "$folder/shared"
    mount -t tmpfs -o mode=755,size=3g none "$folder/memory"
    mkdir "$folder/memory/upper" "$folder/memory/work"
    mount -t overlay -o "lowerdir=$base,upperdir=$folder/memory/upper,workdir=$folder/memory/work" none "$root" 2>/dev/null || {
        mount --bind "$folder/memory/upper" "$root"
        cp -a "$base/." "$root/"
    }
    mount -t proc none "$root/proc"
    mount -t tmpfs -o mode=755 none "$root/dev"
    for device in null zero full random urandom tty; do
        : >"$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 none "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"; done
    mount -t tmpfs -o mode=755 none "$root/run"
    mkdir "$root/run/lock" "$root/run/sshd"
    mount --bind "$folder/shared" "$root/mnt"
    echo "$pid" >"$folder/pid.new"
    mv "$folder/pid.new" "$folder/pid"
    # As PID 1 it is what ends everything, and reaps what falls to it.
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /bin/sh -c 'while :; do sleep 3600 & wait; done'
}

"$step"
