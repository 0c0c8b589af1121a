//! Names: what is allowed beside what is not, with a look at the disk.
