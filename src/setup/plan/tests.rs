//! Plans, from hosts made by hand.
