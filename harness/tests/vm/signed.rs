//! The driver, test-signed: the signature holds, is lost with a byte, and is nothing that a guest stumbles over.

use squall_harness::{signing::Certificate, toolbox::Toolbox, verdict::Outcome};

use crate::bench::Bench;

#[tokio::test]
async fn a_signed_driver_verifies_until_it_is_changed_and_runs() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let signer = tokio::task::spawn_blocking(|| Toolbox::open().unwrap().signer().unwrap()).await.unwrap();
    let certificate = Certificate::in_folder(folder.path(), &signer).unwrap();
    let image = &bench.artifacts.driver.image;
    let signed = folder.path().join("squall.sys");
    assert!(certificate.verify(image, &signer).is_err(), "it is signed already");
    certificate.sign(image, &signed, &signer).unwrap();
    certificate.verify(&signed, &signer).unwrap();
    // The same once more, by the same certificate.
    assert_eq!(Certificate::in_folder(folder.path(), &signer).unwrap(), certificate);
    certificate.sign(image, &signed, &signer).unwrap();

    let bytes = std::fs::read(&signed).unwrap();
    let verdict = bench.bytes(&bytes, |_| ()).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Clean, "{verdict:#?}");

    let mut changed = bytes;
    let place = changed.len() / 3;
    changed[place] ^= 1;
    std::fs::write(&signed, changed).unwrap();
    let error = certificate.verify(&signed, &signer).unwrap_err().to_string();
    assert!(error.starts_with("signing: osslsigncode verify: ") && !error.contains('\n'), "{error}");
    // Nor does another certificate vouch for it.
    let other = tempfile::tempdir().unwrap();
    certificate.sign(image, &signed, &signer).unwrap();
    let other = Certificate::in_folder(other.path(), &signer).unwrap();
    assert!(other.verify(&signed, &signer).is_err());
}
