//! Checks of what no test can make of a real host: kernels and versions of sshd, made up.
