//! Linker settings of the driver image, from the WDK's metadata and a few of our own.

fn main() -> Result<(), wdk_build::ConfigError> {
    // A PE checksum: Windows verifies it for every boot-start image, and a crash dump identifies a module by it.
    println!("cargo::rustc-cdylib-link-arg=/RELEASE");
    // The image names its PDB, not the folder it was built in; and the same source gives the same image.
    println!("cargo::rustc-cdylib-link-arg=/PDBALTPATH:%_PDB%");
    println!("cargo::rustc-cdylib-link-arg=/BREPRO");
    wdk_build::configure_wdk_binary_build()
}
