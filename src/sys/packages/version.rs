//! Versions of Debian packages in their order (deb-version(7)): epoch, upstream, revision.

use std::cmp::Ordering;

/// As `dpkg --compare-versions`.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let ((epoch_a, up_a, rev_a), (epoch_b, up_b, rev_b)) = (parts(a), parts(b));
    number(epoch_a, epoch_b).then_with(|| part(up_a, up_b)).then_with(|| part(rev_a, rev_b))
}

fn parts(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// By turns what is no digit, where `~` is before the end and letters before all else, and numbers.
fn part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let split = |text: &str, digits: bool| text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
        let ((word_a, rest_a), (word_b, rest_b)) = (a.split_at(split(a, false)), b.split_at(split(b, false)));
        let order = words(word_a, word_b);
        if order != Ordering::Equal {
            return order;
        }
        let ((digits_a, after_a), (digits_b, after_b)) = (rest_a.split_at(split(rest_a, true)), rest_b.split_at(split(rest_b, true)));
        let order = number(digits_a, digits_b);
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (after_a, after_b);
    }
    Ordering::Equal
}

fn words(a: &str, b: &str) -> Ordering {
    let weight = |c: Option<char>| match c {
        Some('~') => (0, 0),
        None => (1, 0),
        Some(c) if c.is_ascii_alphabetic() => (2, u32::from(c)),
        Some(c) => (3, u32::from(c)),
    };
    let (mut a, mut b) = (a.chars(), b.chars());
    loop {
        let (c, d) = (a.next(), b.next());
        match weight(c).cmp(&weight(d)) {
            Ordering::Equal if c.is_none() => return Ordering::Equal,
            Ordering::Equal => {}
            order => return order,
        }
    }
}

/// Digits of any length.
fn number(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_of_dpkg() {
        // Each is lower than the next, as `dpkg --compare-versions` says.
        let order = [
            "0~~",
            "0~",
            "0",
            "1.0~rc1-1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0-2",
            "1.0-10",
            "1.0a-1",
            "1.0+b1",
            "1.0.1-1",
            "1.9",
            "1.10",
            "2.0",
            "1:0.1",
            "1:1.0~bpo12+1",
            "1:1.0",
            "2:0",
        ];
        for pair in order.windows(2) {
            if let [a, b] = pair {
                assert_eq!((compare(a, b), compare(b, a)), (Ordering::Less, Ordering::Greater), "{a} {b}");
            }
        }
        assert_eq!(compare("1.00-1", "1.0-01"), Ordering::Equal);
        assert_eq!(compare("0:1.0", "1.0-0"), Ordering::Equal);
    }
}
