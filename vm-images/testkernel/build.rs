//! Hands the kernel's linker script to the linker by an absolute path, so that the build works from any directory.

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-link-arg-bins=-T{root}/kernel.ld");
    println!("cargo:rerun-if-changed=kernel.ld");
}
