# For the scripts of packages, which hold this text: the accounts and folders of rex. By systemd's tools where the host has them, else by hand from the same files.

make_accounts() {
    ! command -v systemd-sysusers >/dev/null 2>&1 || systemd-sysusers rex.conf || true
    getent group rexusers >/dev/null || groupadd --system rexusers
    getent passwd rex >/dev/null ||
        useradd --system --user-group --groups rexusers --no-create-home --home-dir /var/lib/rex --shell /usr/sbin/nologin --comment "rex serve" rex
}

make_folders() {
    ! command -v systemd-tmpfiles >/dev/null 2>&1 || ! systemd-tmpfiles --create rex.conf || return 0
    while read -r kind path mode owner group _; do
        [ "$kind" != d ] || install -d -m "$mode" -o "$owner" -g "$group" "$path"
    done </usr/lib/tmpfiles.d/rex.conf
}

# A running rex.service goes on with the program that it was started from, and so do its sessions: when they may end is the owner's to say.
after_upgrade() {
    [ -d /run/systemd/system ] || return 0
    systemctl daemon-reload || true
    ! systemctl --quiet is-active rex.service || echo "rex.service still runs the version before: systemctl restart rex.service ends its sessions and starts the new one"
}

before_removal() {
    [ ! -d /run/systemd/system ] || systemctl stop rex.service || true
}

after_removal() {
    [ ! -d /run/systemd/system ] || systemctl daemon-reload || true
}
