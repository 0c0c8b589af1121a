//! Branches of a script: jobs that run side by side, on its own thread and on some more that are held to the same limits.

use super::supervise::STACK;
use crate::limits::{Stop, Watch};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Does the jobs `0..count`, at most `most` at one time, and gives their results in order. They begin in order; after a result that `go_on` does not
/// like none begins any more, and then the rest is `None`. All that began have ended when this returns.
///
/// The calling thread does its share. So there is no waiting for a free thread, whatever calls this inside a job, and where the kernel gives no
/// thread the jobs are done one after the other.
pub fn side_by_side<T: Send>(
    watch: &Watch,
    count: usize,
    most: u32,
    job: impl Fn(usize) -> T + Sync,
    go_on: impl Fn(&T) -> bool + Sync,
) -> Vec<Option<T>> {
    let results: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let (next, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let panicked: Mutex<Option<Box<dyn Any + Send>>> = Mutex::new(None);
    let work = &|| {
        while !ended.load(Ordering::SeqCst) {
            let Some((at, slot)) = Some(next.fetch_add(1, Ordering::SeqCst)).and_then(|at| Some((at, results.get(at)?))) else { break };
            match catch_unwind(AssertUnwindSafe(|| job(at))) {
                Ok(result) => {
                    if !go_on(&result) {
                        ended.store(true, Ordering::SeqCst);
                    }
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
                Err(panic) => {
                    ended.store(true, Ordering::SeqCst);
                    // The supervisor learns of it when the script's own thread panics too; the other branches must not keep it from that.
                    if super::supervise::is_capacity_overflow(&panic) {
                        watch.stop(Stop::Memory);
                    }
                    watch.end();
                    panicked.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                }
            }
        }
    };
    let wanted = most.min(u32::try_from(count).unwrap_or(u32::MAX)).saturating_sub(1);
    let taken = watch.take_branches(wanted);
    std::thread::scope(|scope| {
        for _ in 0..taken {
            let branch = move || {
                crate::limits::limit_this_thread();
                super::overflow::watch_this_branch(STACK);
                work();
                watch.settle();
                super::overflow::forget_this_branch();
            };
            if std::thread::Builder::new().name("branch".to_owned()).stack_size(STACK).spawn_scoped(scope, branch).is_err() {
                break;
            }
        }
        work();
    });
    watch.give_branches(taken);
    if let Some(panic) = panicked.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
    results.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

#[cfg(test)]
#[path = "branches/tests.rs"]
mod tests;
