//! Counters under the whole program: an allocator, and functions of the C library that stand in this program
//! under their own names, so that what is linked into it calls them, and that pass everything on.
//!
//! What the C library calls inside itself, and what a crate asks of the kernel without it, is not seen. How
//! often threads wait and wake each other is the scheduler's doing, and not counted.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ffi::{c_int, c_long, c_void},
    ops::Sub,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Shorter copies are not counted: they are a header's or a struct's, not the file's.
const COPY_LEN: usize = 1024;

static SYSTEM_CALLS: AtomicU64 = AtomicU64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static COPIED: AtomicU64 = AtomicU64::new(0);

/// What was counted since the start of the program, or between two moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts([u64; NAMES.len()]);

const NAMES: [&str; 3] = ["system calls", "allocations", "bytes copied"];

/// The counts so far.
pub(crate) fn now() -> Counts {
    Counts([&SYSTEM_CALLS, &ALLOCATIONS, &COPIED].map(|counter| counter.load(Relaxed)))
}

impl Counts {
    pub(crate) fn named(&self) -> [(&'static str, u64); NAMES.len()] {
        std::array::from_fn(|i| (NAMES[i], self.0[i]))
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - earlier.0[i]))
    }
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        unsafe { System.dealloc(old, layout) }
    }
}

unsafe extern "C" {
    fn memmove(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void;
    fn syscall(number: c_long, ...) -> c_long;
}

/// A copy between places that do not overlap.
///
/// # Safety
/// As of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
    if len >= COPY_LEN {
        COPIED.fetch_add(len as u64, Relaxed);
    }
    // SAFETY: the caller's; it does all that memcpy does.
    unsafe { memmove(to, from, len) }
}

/// Defines functions of the C library that are one system call each, and counts the calls.
macro_rules! counted {
    ($($name:ident = $number:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {$(
        /// # Safety
        /// As of the C library's.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $type),*) -> $result {
            SYSTEM_CALLS.fetch_add(1, Relaxed);
            // SAFETY: the caller's; these are the arguments of the system call.
            unsafe { syscall(number::$number, $($arg),*) as $result }
        }
    )*};
}

counted! {
    sendmsg = SENDMSG(socket: c_int, message: *const c_void, flags: c_int) -> isize;
    sendmmsg = SENDMMSG(socket: c_int, messages: *mut c_void, count: u32, flags: c_int) -> c_int;
    recvmsg = RECVMSG(socket: c_int, message: *mut c_void, flags: c_int) -> isize;
    recvmmsg = RECVMMSG(
        socket: c_int, messages: *mut c_void, count: u32, flags: c_int, timeout: *mut c_void
    ) -> c_int;
    read = READ(file: c_int, buffer: *mut c_void, len: usize) -> isize;
    pread64 = PREAD64(file: c_int, buffer: *mut c_void, len: usize, offset: i64) -> isize;
    pwrite64 = PWRITE64(file: c_int, buffer: *const c_void, len: usize, offset: i64) -> isize;
    readv = READV(file: c_int, buffers: *const c_void, count: c_int) -> isize;
    writev = WRITEV(file: c_int, buffers: *const c_void, count: c_int) -> isize;
}

/// Writes to a file; or, eight bytes, to an event that wakes a thread.
///
/// # Safety
/// As of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(file: c_int, buffer: *const c_void, len: usize) -> isize {
    if len > size_of::<u64>() {
        SYSTEM_CALLS.fetch_add(1, Relaxed);
    }
    // SAFETY: the caller's; these are the arguments of the system call.
    unsafe { syscall(number::WRITE, file, buffer, len) as isize }
}

/// Numbers of system calls on x86-64.
mod number {
    use std::ffi::c_long;

    pub(super) const READ: c_long = 0;
    pub(super) const WRITE: c_long = 1;
    pub(super) const PREAD64: c_long = 17;
    pub(super) const PWRITE64: c_long = 18;
    pub(super) const READV: c_long = 19;
    pub(super) const WRITEV: c_long = 20;
    pub(super) const SENDMSG: c_long = 46;
    pub(super) const RECVMSG: c_long = 47;
    pub(super) const RECVMMSG: c_long = 299;
    pub(super) const SENDMMSG: c_long = 307;
}
