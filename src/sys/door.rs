//! Only in builds with the feature `raw-syscall-door`, which tests make and nobody ships: any system call at all, as a fault in rex might give it.
#![expect(unsafe_code, reason = "the door stands for a fault of memory safety")]

/// An argument of a raw call.
#[derive(Clone, Debug)]
pub enum Word {
    Number(i64),
    /// The address of these bytes, with a NUL behind them. The kernel may write to them.
    Bytes(Vec<u8>),
    /// The address of words in a row, with a zero behind them.
    Words(Vec<Word>),
}

/// Where the numbers of a row are.
struct Laid {
    value: i64,
    _rows: Vec<(Vec<i64>, Vec<Laid>)>,
}

fn lay(word: &mut Word) -> Laid {
    match word {
        Word::Number(value) => Laid { value: *value, _rows: Vec::new() },
        Word::Bytes(bytes) => {
            bytes.push(0);
            Laid { value: bytes.as_mut_ptr() as i64, _rows: Vec::new() }
        }
        Word::Words(words) => {
            let inside: Vec<Laid> = words.iter_mut().map(lay).collect();
            let mut row: Vec<i64> = inside.iter().map(|laid| laid.value).collect();
            row.push(0);
            Laid { value: row.as_mut_ptr() as i64, _rows: vec![(row, inside)] }
        }
    }
}

/// Makes the call; gives what the kernel returned, errors as negative numbers.
pub fn call(number: i64, words: &mut [Word]) -> i64 {
    let laid: Vec<Laid> = words.iter_mut().map(lay).collect();
    let at = |index: usize| laid.get(index).map_or(0, |laid| laid.value);
    // SAFETY: none. That is what the door is for.
    let done = unsafe { libc::syscall(number as libc::c_long, at(0), at(1), at(2), at(3), at(4), at(5)) };
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    drop(laid);
    for word in words {
        if let Word::Bytes(bytes) = word {
            bytes.pop();
        }
    }
    if done == -1 { -i64::from(errno) } else { done }
}
