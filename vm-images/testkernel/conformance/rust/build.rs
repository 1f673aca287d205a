//! Linker settings of a driver image, from the WDK's metadata and a few of our own.

fn main() -> Result<(), wdk_build::ConfigError> {
    // A PE checksum: Windows verifies it for every boot-start image, and a crash dump identifies a module by it.
    println!("cargo::rustc-cdylib-link-arg=/RELEASE");
    // The same source gives the same image.
    println!("cargo::rustc-cdylib-link-arg=/BREPRO");
    // The kit's import libraries are inputs of the link, which cargo cannot know.
    for folder in wdk_build::Config::from_env_auto()?.library_paths()? {
        println!("cargo::rerun-if-changed={}", folder.join("ntoskrnl.lib").display());
        println!("cargo::rerun-if-changed={}", folder.join("hal.lib").display());
    }
    wdk_build::configure_wdk_binary_build()
}
