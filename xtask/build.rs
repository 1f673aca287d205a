//! Tells xtask for which target it is built: the one on which a bare-metal workspace's pure crates are tested.

fn main() {
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=SQUALL_HOST_TARGET={target}");
    println!("cargo:rerun-if-changed=build.rs");
}
