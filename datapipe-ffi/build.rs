//! Arguments of the linker for the shared library.

fn main() {
    // The version of the interface, as cargo-c sets it for an installed library.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdatapipe.so.0.1");
    // Threads, thread-local destructors and fork handlers of the library outlive a `dlclose`.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
