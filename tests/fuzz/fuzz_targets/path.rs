//! Whatever bytes are in a path: its id leads back to them, and two paths never share one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rexsh::resource::path::{AbsPath, from_id, to_id};

fuzz_target!(|bytes: (&[u8], &[u8])| {
    let (one, other) = bytes;
    assert_eq!(from_id(&to_id(one)), one);
    assert_eq!(to_id(one) == to_id(other), one == other);
    if let Ok(path) = AbsPath::new(one) {
        assert!(!path.as_bytes().contains(&0) && path.as_bytes().starts_with(b"/"));
    }
});
