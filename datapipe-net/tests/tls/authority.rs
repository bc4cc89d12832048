//! An authority, the certificates that it issues, and directories with the files of an identity.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use datapipe_net::tls::MachineIdentity;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ED25519,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

/// Authority with a key.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Certificate with its key.
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
    pub(crate) serial: SerialNumber,
}

/// Use of a certificate.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Client,
    Server,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, key()).unwrap())
    }

    pub(crate) fn issue(&self, kind: Kind, names: &[&str]) -> Issued {
        self.issue_between(kind, names, 2020, 2200)
    }

    /// Issues a certificate that is valid from one year to another.
    pub(crate) fn issue_between(&self, kind: Kind, names: &[&str], from: i32, to: i32) -> Issued {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        params.extended_key_usages = vec![match kind {
            Kind::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Kind::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let key = key();
        // 8 bytes of the key, so that certificates of one authority differ; the first bit says that
        // the number is positive.
        let mut serial = key.public_key_raw()[..8].to_vec();
        serial[0] = serial[0] & 0x7f | 0x40;
        let serial = SerialNumber::from_slice(&serial);
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key,
            serial,
        }
    }

    /// The list of the certificates that this authority has revoked.
    pub(crate) fn revoke(&self, revoked: &[&Issued]) -> String {
        let revoked = revoked.iter().map(|issued| RevokedCertParams {
            serial_number: issued.serial.clone(),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            // In the past: lists that were not renewed still count.
            next_update: date_time_ymd(2022, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// Files of an identity whose own certificate is `issued`, and which accepts this authority.
    pub(crate) fn files(&self, issued: &Issued) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        write(&path("own.pem"), &issued.pem, 0o644);
        write(&path("own.key"), &issued.key.serialize_pem(), 0o600);
        write(&path("ca.pem"), &self.pem(), 0o644);
        directory
    }

    pub(crate) fn identity(&self, issued: &Issued) -> MachineIdentity {
        load(&self.files(issued)).unwrap()
    }
}

/// Loads the identity of a directory that [`Authority::files`] has made.
pub(crate) fn load(
    files: &TempDir,
) -> Result<MachineIdentity, datapipe_net::tls::MachineIdentityError> {
    MachineIdentity::load(&files.path().join("own.pem"))
}

/// Writes a file with a mode.
pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}
