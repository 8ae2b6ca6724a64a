//! Tells the linker what a Node.js addon may leave unresolved; nothing without the `binding` feature.
//!
//! `napi_build::setup` would say the same, but it also asks Cargo to watch `NAPI_FORCE_BUILD_ATS_P2P`, which
//! the napi command line sets on its first run in a clone only: every second build would compile the crate
//! anew.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_BINDING").is_none() {
        return;
    }
    // Where the type definitions go that the loader's exports are taken from.
    println!("cargo::rerun-if-env-changed=NAPI_TYPE_DEF_TMP_FOLDER");
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        // Node.js has the functions of its API; the addon finds them when it is loaded.
        Ok("macos") => println!("cargo::rustc-cdylib-link-arg=-Wl,-undefined,dynamic_lookup"),
        // Threads may end after the last user of the addon is gone, and run destructors of it.
        Ok("linux") => println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete"),
        _ => {}
    }
}
