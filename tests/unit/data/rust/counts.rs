//! What aya's macros make of a program, written out: maps, bare sections, a variable to set, a log of bytes.
//!
//! Without `--cfg btf_maps` the maps are numbers in the section `maps` (`#[map]`), with it types in `.maps`
//! (`#[btf_map]`), wrapped as aya-ebpf wrapped them in 2025: a map in an UnsafeCell in a declaration.
//! `./build.py` makes the objects beside this file; it says how.
#![no_std]
#![no_main]
#![allow(dead_code)]

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::transmute;
use core::ptr::read_volatile;

#[link_section = "license"]
#[no_mangle]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[no_mangle]
static STEP: u64 = 1; // aya's EbpfLoader::set_global

const HASH: usize = 1;
const PERF_EVENT_ARRAY: usize = 4;
const PERCPU_ARRAY: usize = 6;

/// A process, and the thread of it that called last.
#[repr(C)]
pub struct Calls {
    count: u64,
    last: u32,
    name: [u8; 16],
    pad: u32,
}

#[cfg(not(btf_maps))]
mod declared {
    use super::*;

    #[repr(C)]
    struct Numbers {
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
        id: u32,
        pinning: u32,
    }

    #[repr(transparent)]
    pub struct Map(UnsafeCell<Numbers>);
    unsafe impl Sync for Map {}

    impl Map {
        const fn new(kind: usize, key_size: u32, value_size: u32, max_entries: u32) -> Map {
            Map(UnsafeCell::new(Numbers {
                kind: kind as u32, key_size, value_size, max_entries, flags: 0, id: 0, pinning: 0,
            }))
        }
        #[inline]
        pub fn get(&self) -> *mut c_void {
            self.0.get() as *mut c_void
        }
    }

    #[link_section = "maps"]
    #[export_name = "CALLS"]
    pub static CALLS: Map = Map::new(HASH, 4, 32, 1024);
    #[link_section = "maps"]
    #[export_name = "TOTALS"]
    pub static TOTALS: Map = Map::new(PERCPU_ARRAY, 4, 8, 4);
    #[link_section = "maps"]
    #[export_name = "AYA_LOGS"]
    pub static LOGS: Map = Map::new(PERF_EVENT_ARRAY, 4, 4, 0);
}

#[cfg(btf_maps)]
mod declared {
    use super::*;
    use core::ptr::null;

    pub struct Types<K, V, const T: usize, const M: usize> {
        r#type: *const [i32; T],
        key: *const K,
        value: *const V,
        max_entries: *const [i32; M],
    }

    #[repr(transparent)]
    pub struct Map<K, V, const T: usize, const M: usize>(UnsafeCell<Types<K, V, T, M>>);
    unsafe impl<K, V, const T: usize, const M: usize> Sync for Map<K, V, T, M> {}

    impl<K, V, const T: usize, const M: usize> Map<K, V, T, M> {
        const fn new() -> Self {
            Map(UnsafeCell::new(Types { r#type: null(), key: null(), value: null(), max_entries: null() }))
        }
        #[inline]
        pub fn get(&self) -> *mut c_void {
            self.0.get() as *mut c_void
        }
    }

    #[link_section = ".maps"]
    #[export_name = "CALLS"]
    pub static CALLS: Map<u32, Calls, HASH, 1024> = Map::new();
    #[link_section = ".maps"]
    #[export_name = "TOTALS"]
    pub static TOTALS: Map<u32, u64, PERCPU_ARRAY, 4> = Map::new();
    #[link_section = ".maps"]
    #[export_name = "AYA_LOGS"]
    pub static LOGS: Map<u32, u32, PERF_EVENT_ARRAY, 0> = Map::new();
}

use declared::{CALLS, LOGS, TOTALS};

// Helpers are called by their numbers, as aya's bindings do.
#[inline]
fn lookup<V>(map: *mut c_void, key: &u32) -> Option<&mut V> {
    let helper: extern "C" fn(*mut c_void, *const u32) -> *mut V = unsafe { transmute(1usize) };
    unsafe { helper(map, key).as_mut() }
}

#[inline]
fn insert<V>(map: *mut c_void, key: &u32, value: &V) -> i64 {
    let helper: extern "C" fn(*mut c_void, *const u32, *const V, u64) -> i64 = unsafe { transmute(2usize) };
    helper(map, key, value, 0)
}

#[inline]
fn pid_tgid() -> u64 {
    let helper: extern "C" fn() -> u64 = unsafe { transmute(14usize) };
    helper()
}

#[inline]
fn comm(into: &mut [u8; 16]) -> i64 {
    let helper: extern "C" fn(*mut u8, u32) -> i64 = unsafe { transmute(16usize) };
    helper(into.as_mut_ptr(), 16)
}

#[inline]
fn log(ctx: *mut c_void, bytes: &[u8; 8]) -> i64 {
    let helper: extern "C" fn(*mut c_void, *mut c_void, u64, *const u8, u64) -> i64 = unsafe { transmute(25usize) };
    const THIS_CPU: u64 = 0xFFFF_FFFF;
    helper(ctx, LOGS.get(), THIS_CPU, bytes.as_ptr(), 8)
}

#[inline]
fn add(slot: u32) -> Result<u64, i64> {
    let total: &mut u64 = lookup(TOTALS.get(), &slot).ok_or(-1i64)?;
    *total += unsafe { read_volatile(&STEP) };
    Ok(*total)
}

fn count(ctx: *mut c_void) -> Result<u64, i64> {
    let both = pid_tgid();
    let pid = (both >> 32) as u32;
    match lookup::<Calls>(CALLS.get(), &pid) {
        Some(calls) => {
            calls.count += unsafe { read_volatile(&STEP) };
            calls.last = both as u32;
        }
        None => {
            let mut calls = Calls { count: unsafe { read_volatile(&STEP) }, last: both as u32, name: [0; 16], pad: 0 };
            comm(&mut calls.name);
            insert(CALLS.get(), &pid, &calls);
            log(ctx, b"new one\0");
        }
    }
    add(0)
}

#[no_mangle]
#[link_section = "tracepoint"]
fn on_call(ctx: *mut c_void) -> u32 {
    let _ = count(ctx);
    0
}

#[no_mangle]
#[link_section = "uprobe"]
fn on_function(ctx: *mut c_void) -> u32 {
    let _ = count(ctx);
    0
}

#[repr(C)]
pub struct XdpMd {
    data: u32,
    data_end: u32,
}

#[no_mangle]
#[link_section = "xdp"]
fn on_packet(ctx: *mut XdpMd) -> u32 {
    const DROP: u32 = 1;
    const PASS: u32 = 2;
    let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    if start + 14 > end || add(1).is_err() {
        return DROP;
    }
    let ether_type = u16::from_be(unsafe { *((start + 12) as *const u16) });
    match ether_type {
        0x0800 => PASS,
        _ => DROP,
    }
}

#[no_mangle]
#[link_section = "classifier"]
fn on_frame(_ctx: *mut c_void) -> i32 {
    let _ = add(2);
    0 // TC_ACT_OK
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
