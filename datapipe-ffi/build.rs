//! Arguments of the linker for the shared library.

use std::env;

fn main() {
    // The version of the interface, as cargo-c sets it for an installed library. From 1.0 on, it is
    // the major version alone.
    let part = |name| env::var(format!("CARGO_PKG_VERSION_{name}")).unwrap_or_default();
    let interface = match part("MAJOR") {
        major if major == "0" => format!("0.{}", part("MINOR")),
        major => major,
    };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdatapipe.so.{interface}");
    println!("cargo::rustc-env=DATAPIPE_INTERFACE={interface}");
    // Threads, thread-local destructors and fork handlers of the library outlive a `dlclose`.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
