#!/bin/sh
# A sandbox for a test: /etc, /home, /root, /var, /usr/bin and /run that only its namespaces have, and no systemd. Usage, as root:
#   sandbox.sh boot FOLDER      stays until it is killed; FOLDER/pid holds the process id of its first process as the host sees it
set -eu

main=$0 step=$1 folder=$2

boot() {
    exec unshare --mount --propagation private --pid --fork --kill-child sh "$main" inside "$folder"
}

inside() {
    read -r pid _ </proc/self/stat # the old /proc still shows the host's numbers
    fresh=$folder/fresh
    mkdir -p "$fresh"
    mount -t tmpfs -o mode=755 none "$fresh"
    mkdir "$fresh/etc"
    # Accounts of other tests come and go, and with them the files beside /etc/passwd that useradd writes.
    cp -a /etc/. "$fresh/etc/" 2>/dev/null || cp -a /etc/. "$fresh/etc/" 2>/dev/null || cp -a /etc/. "$fresh/etc/" 2>/dev/null || cp -a /etc/. "$fresh/etc/"
    rm -rf "$fresh/etc/rex" "$fresh"/etc/ssh/sshd_config.d/rex*.conf "$fresh"/etc/*.lock
    # Every host where an account was ever made has it (lckpwdf(3)).
    : >"$fresh/etc/.pwd.lock" && chmod 600 "$fresh/etc/.pwd.lock"
    mount -t tmpfs -o mode=755 none /home
    mount -t tmpfs -o mode=700 none /root
    for place in var usr/bin; do
        name=$(echo $place | tr / -)
        mkdir "$fresh/$name-upper" "$fresh/$name-work"
        mount -t overlay -o "lowerdir=/$place,upperdir=$fresh/$name-upper,workdir=$fresh/$name-work" none "/$place"
    done
    mount --bind "$fresh/etc" /etc
    rm -rf /var/lib/rex-setup /var/cache/rex /var/log/rex /usr/bin/rex /usr/bin/rexsh
    mount -t tmpfs -o mode=755 none /run
    mkdir -m 755 /run/sshd /run/lock
    mount -t proc none /proc
    # No step further on the machine's own folders, whatever went wrong above.
    for mine in /etc /run /var /home /root /usr/bin; do
        mountpoint -q $mine || { echo "$mine is not a mount of the test" >&2; exit 1; }
    done
    echo "$pid" >"$folder/pid.new"
    mv "$folder/pid.new" "$folder/pid"
    while :; do sleep 1000; done
}

"$step"
