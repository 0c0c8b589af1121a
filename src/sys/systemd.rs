//! systemd over D-Bus.
