//! Permission bits as people write them: 0o644, "0644", "u+rwX,g-w,o=".

use crate::error::{Result, bad_argument};
use crate::functions::value::{Dynamic, FromScript};

/// What `chmod` is asked to make of a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    Exactly(u32),
    Each(Vec<Clause>),
}

/// One step of a symbolic mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// The bits of those it is about.
    who: u32,
    /// Nobody was named: everybody is meant, but `w` is given to the owner only.
    unnamed: bool,
    operator: char,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Bits, and those of them that are given only to directories and programs (`X`).
    Bits { always: u32, sometimes: u32 },
    /// The permissions that these have now: how far to the right they are.
    As(u32),
}

/// What a mask of 022 takes away, which is what "nobody named" respects in chmod(1).
const MASK: u32 = 0o022;
const SET_ID: u32 = 0o6000;

/// Ints that are octal digits written without `0o`, as they are often seen. As a mode, each would be something that nobody wants (with the
/// sticky bit on).
const WITHOUT_PREFIX: &[i64] = &[600, 640, 644, 660, 664, 666, 700, 750, 755, 770, 775, 777, 1777, 2755, 2775, 4755];

impl ModeChange {
    /// The bits that come of these.
    #[must_use]
    pub fn of(&self, mode: u32, is_dir: bool) -> u32 {
        let clauses = match self {
            Self::Exactly(bits) => return *bits,
            Self::Each(clauses) => clauses,
        };
        let mut mode = mode & 0o7777;
        for clause in clauses {
            let value = match clause.what {
                What::As(shift) => ((mode >> shift) & 0o7) * 0o111,
                What::Bits { always, sometimes } => always | if is_dir || mode & 0o111 != 0 { sometimes } else { 0 },
            };
            let value = value & clause.who & if clause.unnamed { !MASK } else { 0o7777 };
            mode = match clause.operator {
                '+' => mode | value,
                '-' => mode & !value,
                // What a directory hands on to what is made in it is not meant by `g=rx`, as in chmod(1).
                _ if is_dir && value & SET_ID == 0 => (mode & !(clause.who & !SET_ID)) | value,
                _ => (mode & !clause.who) | value,
            };
        }
        mode
    }

    fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777 && text.len() <= 5).map(Self::Exactly);
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let start = part.find(['+', '-', '='])?;
            let (names, mut rest) = part.split_at(start);
            let mut who = 0;
            for name in names.chars() {
                who |= match name {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return None,
                };
            }
            let unnamed = names.is_empty();
            while let Some(operator) = rest.chars().next() {
                let letters = rest.get(1..)?;
                let end = letters.find(['+', '-', '=']).unwrap_or(letters.len());
                let (letters, next) = letters.split_at(end);
                clauses.push(Clause { who: if unnamed { 0o7777 } else { who }, unnamed, operator, what: What::parse(letters)? });
                rest = next;
            }
        }
        (!clauses.is_empty()).then_some(Self::Each(clauses))
    }
}

impl What {
    fn parse(letters: &str) -> Option<Self> {
        match letters {
            "u" => return Some(Self::As(6)),
            "g" => return Some(Self::As(3)),
            "o" => return Some(Self::As(0)),
            _ => {}
        }
        let (mut always, mut sometimes) = (0, 0);
        for letter in letters.chars() {
            match letter {
                'r' => always |= 0o444,
                'w' => always |= 0o222,
                'x' => always |= 0o111,
                'X' => sometimes |= 0o111,
                's' => always |= SET_ID,
                't' => always |= 0o1000,
                _ => return None,
            }
        }
        Some(Self::Bits { always, sometimes })
    }
}

impl FromScript for ModeChange {
    const TYPE: &'static str = "permission bits: an int such as 0o644, or text such as \"0644\" or \"u+rwX,go-w\"";
    fn from_script(value: Dynamic) -> Result<Self> {
        if let Ok(int) = value.as_int() {
            if WITHOUT_PREFIX.contains(&int) {
                return Err(bad_argument(format!("the int {int} is 0o{int:o}"))
                    .with_hint(format!("octal is written 0o{int}, or as text \"{int}\"")));
            }
            return u32::try_from(int)
                .ok()
                .filter(|bits| *bits <= 0o7777)
                .map(Self::Exactly)
                .ok_or_else(|| bad_argument(format!("permission bits go from 0 to 0o7777, got {int}")));
        }
        let text = String::from_script(value).map_err(|_| bad_argument(format!("expected {}", Self::TYPE)))?;
        Self::parse(&text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            bad_argument(format!("`{}` are no permission bits", shown.escape_debug())).with_hint(format!("expected {}", Self::TYPE))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str, mode: u32, is_dir: bool) -> u32 {
        ModeChange::parse(text).unwrap().of(mode, is_dir)
    }

    #[test]
    fn symbolic_modes_mean_what_chmod_1_makes_of_them() {
        for (text, mode, is_dir, result) in [
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("+w", 0o444, false, 0o644),
            ("a+w", 0o444, false, 0o666),
            ("go-w", 0o666, false, 0o644),
            ("o=", 0o777, false, 0o770),
            ("u=rwx,g=rx,o=", 0, false, 0o750),
            ("u+rwX,g-w,o=", 0o660, false, 0o640),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o744, false, 0o755),
            ("a+X", 0o644, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("o=g-w", 0o660, false, 0o664),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, false, 0o2755),
            ("+t", 0o777, true, 0o1777),
            ("u-s", 0o4755, false, 0o755),
            ("g=rx", 0o2775, true, 0o2755),
            ("g=rx", 0o2775, false, 0o755),
            ("=", 0o777, false, 0),
            ("0644", 0o777, false, 0o644),
            ("4755", 0, false, 0o4755),
            ("644", 0o6777, true, 0o644),
        ] {
            assert_eq!(of(text, mode, is_dir), result, "{text} on {mode:o}: {:o}", of(text, mode, is_dir));
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in ["", "8", "77777", "17777", "u", "u+q", "z+x", "+x,", ",", "u+ux", "rwxr-xr-x", "0o644", "-1", " 644"] {
            assert_eq!(ModeChange::parse(text), None, "{text}");
        }
        for int in [-1, 0o10000, 644, 755, 777] {
            assert!(ModeChange::from_script(Dynamic::from_int(int)).is_err(), "{int}");
        }
        // What `stat` gives goes in again.
        for int in 0..=0o777 {
            let refused = ModeChange::from_script(Dynamic::from_int(int)).is_err();
            assert!(!refused, "{int:o}");
        }
    }
}
