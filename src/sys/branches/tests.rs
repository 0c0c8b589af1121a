//! Jobs side by side: their order, their number, panics, and what they count together.
#![allow(clippy::panic, reason = "a panic is what the test is about")]

use super::*;
use crate::limits::{Limits, MAX_BRANCHES};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

fn watch() -> Watch {
    Watch::new(Limits::default())
}

#[test]
fn results_come_in_order_and_no_more_run_at_one_time_than_asked() {
    let (watch, now, highest) = (watch(), AtomicU32::new(0), AtomicU32::new(0));
    let job = |at: usize| {
        highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(if at == 0 { 50 } else { 5 }));
        now.fetch_sub(1, Ordering::SeqCst);
        at * 2
    };
    let results = side_by_side(&watch, 20, 3, job, |_| true);
    assert_eq!(results.into_iter().flatten().collect::<Vec<_>>(), (0..20).map(|at| at * 2).collect::<Vec<_>>());
    assert!((2..=3).contains(&highest.load(Ordering::SeqCst)));
    assert!(side_by_side(&watch, 0, 3, |_| (), |()| true).is_empty());
}

#[test]
fn after_a_result_that_is_not_liked_none_begins() {
    let results = side_by_side(&watch(), 100, 1, |at| at, |at| *at < 3);
    assert_eq!(results.into_iter().flatten().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn branches_inside_branches_share_the_threads_of_the_run_and_all_get_done() {
    let (watch, now, highest) = (watch(), AtomicU32::new(0), AtomicU32::new(0));
    let leaf = |_: usize| {
        highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        now.fetch_sub(1, Ordering::SeqCst);
        1
    };
    let inner = |_: usize| side_by_side(&watch, 8, 16, leaf, |_| true).into_iter().flatten().sum::<u32>();
    let sum: u32 = side_by_side(&watch, 8, 16, inner, |_| true).into_iter().flatten().sum();
    assert_eq!(sum, 64);
    assert!(highest.load(Ordering::SeqCst) <= MAX_BRANCHES);
    assert_eq!(watch.take_branches(100), MAX_BRANCHES - 1, "all were given back");
}

#[test]
fn a_panic_in_a_branch_ends_the_others_and_goes_on() {
    let watch = watch();
    let job = |at: usize| if at == 1 { panic!("on purpose") } else { watch.sleep(Duration::from_secs(60)) };
    let began = std::time::Instant::now();
    assert!(catch_unwind(AssertUnwindSafe(|| side_by_side(&watch, 4, 4, job, |_| true))).is_err());
    assert!(began.elapsed() < Duration::from_secs(30) && watch.ended());
}

#[test]
fn steps_of_all_threads_count_for_one_limit() {
    let watch = Watch::new(Limits { operations: 10_000, ..Limits::default() });
    let job = |_: usize| {
        (0..4_000)
            .take_while(|_| {
                watch.step();
                watch.check().is_ok()
            })
            .count()
    };
    let counts: Vec<usize> = side_by_side(&watch, 4, 4, job, |_| true).into_iter().flatten().collect();
    assert_eq!(watch.stopping(), Some(Stop::Operations), "{counts:?}");
    assert!(counts.iter().sum::<usize>() < 12_000, "{counts:?}");
}
