//! The allocator that counts what the process holds, for the limit on memory.

use crate::limits::memory::{grow, shrink};
use std::alloc::{GlobalAlloc, Layout, System};

/// Counts every allocation of the process.
pub struct Counting;

#[expect(unsafe_code, reason = "a global allocator is an unsafe trait; every call goes to the system's allocator unchanged")]
// SAFETY: memory comes from and goes back to `System` with the layout that the caller gave; counting touches atomics and a const-initialised thread local only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller keeps the contract of GlobalAlloc::alloc, which is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: the caller got `pointer` from this allocator, that is from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old block lives until the new one is filled, so both count for the limit.
        grow(size);
        shrink(layout.size());
        // SAFETY: as in `dealloc`; `size` is the caller's, checked by the contract of realloc.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
