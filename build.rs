//! Tells the linker what a Node.js addon may leave unresolved; nothing without the `binding` feature.

fn main() {
    #[cfg(feature = "binding")]
    napi_build::setup();
}
