//! Keys, certificates and lists, made and signed.

use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, spki_for_anchor};
use zeroize::Zeroizing;

use super::error::AuthorityError;
use super::register::{CertificatePurpose, CertificateSerial, IssuedCertificate, Register};
use crate::tls::provider;

/// Longest name in the subject of a certificate: the bound of X.520.
const MAX_COMMON_NAME: usize = 64;

/// Key of an authority with the name under which it signs.
pub(super) struct Signer(Issuer<'static, KeyPair>);

/// Certificate with its key, as texts.
pub(super) struct Issued {
    pub(super) certificate: String,
    pub(super) key: Zeroizing<String>,
}

impl Signer {
    /// Makes a key for an authority, and its own certificate.
    pub(super) fn generate(
        register: &Register,
    ) -> Result<(Self, Certificate, Zeroizing<String>), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let text = Zeroizing::new(key.serialize_pem());
        let mut params = authority_params(&register.authority);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        set_validity(&mut params, register.not_before, register.not_after);
        let serial = CertificateSerial::random();
        params.serial_number = Some(SerialNumber::from_slice(serial.bytes()));
        let certificate = params.self_signed(&key)?;
        Ok((Self(Issuer::new(params, key)), certificate, text))
    }

    /// The signer with a key that was read, and the name that the register has.
    pub(super) fn new(
        key: &PrivateKeyDer<'_>,
        register: &Register,
    ) -> Result<Self, AuthorityError> {
        let key = KeyPair::try_from(key)?;
        Ok(Self(Issuer::new(
            authority_params(&register.authority),
            key,
        )))
    }

    /// Returns the certificate that has the key of this signer.
    pub(super) fn own_certificate(
        &self,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Option<CertificateDer<'static>> {
        let key = self.0.key().subject_public_key_info();
        certificates.into_iter().find(|certificate| {
            anchor_from_trusted_cert(certificate)
                .is_ok_and(|anchor| spki_for_anchor(&anchor).as_ref() == key)
        })
    }

    /// Makes a key and a certificate for it, and checks them by the authority's certificate.
    pub(super) fn issue(
        &self,
        entry: &IssuedCertificate,
        authority: &CertificateDer<'_>,
    ) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = CertificateParams::new(entry.names.clone())?;
        params.distinguished_name = common_name(&entry.names[0]);
        params.serial_number = Some(SerialNumber::from_slice(entry.serial.bytes()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match entry.purpose {
            CertificatePurpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            CertificatePurpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, entry.not_before, entry.not_after);
        let certificate = params.signed_by(&key, &self.0)?;
        verify(certificate.der(), authority, entry).map_err(|source| AuthorityError::Unusable {
            serial: entry.serial,
            source,
        })?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// Returns the list of what the register has revoked. The same register gives the same list,
    /// because a signature with Ed25519 has no random part.
    pub(super) fn list(
        &self,
        register: &Register,
    ) -> Result<(CertificateRevocationListDer<'static>, String), AuthorityError> {
        let epoch = date_time_ymd(1970, 1, 1);
        let date = |seconds| epoch + Duration::from_secs(seconds);
        let revoked = register.certificates.iter().filter_map(|certificate| {
            Some(RevokedCertParams {
                serial_number: SerialNumber::from_slice(certificate.serial.bytes()),
                revocation_time: date(certificate.revoked?),
                reason_code: None,
                invalidity_date: None,
            })
        });
        let params = CertificateRevocationListParams {
            this_update: date(register.list.time),
            // The next list comes when something is revoked, so there is no earlier end.
            next_update: date(register.not_after.max(register.list.time + 1)),
            crl_number: SerialNumber::from(register.list.number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.0)?;
        Ok((list.der().clone(), list.pem()?))
    }
}

/// Checks that a register's name and a key are those of an authority's certificate, by a
/// certificate that is made and dropped.
pub(super) fn check_signer(
    signer: &Signer,
    register: &Register,
    authority: &CertificateDer<'_>,
) -> Result<(), AuthorityError> {
    let trial = IssuedCertificate {
        names: vec!["trial.invalid".to_owned()],
        purpose: CertificatePurpose::Client,
        serial: CertificateSerial::random(),
        not_before: register.not_before,
        not_after: register.not_after,
        revoked: None,
    };
    signer.issue(&trial, authority).map(|_| ())
}

/// Parameters of an authority, as far as they are in what it signs.
fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    let name: String = name.chars().take(MAX_COMMON_NAME).collect();
    subject.push(DnType::CommonName, name);
    subject
}

fn set_validity(params: &mut CertificateParams, not_before: u64, not_after: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(not_before);
    params.not_after = epoch + Duration::from_secs(not_after);
}

/// Checks a certificate as the machines will that meet it.
fn verify(
    certificate: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    entry: &IssuedCertificate,
) -> Result<(), webpki::Error> {
    let anchors = [anchor_from_trusted_cert(authority)?];
    let certificate = EndEntityCert::try_from(certificate)?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(entry.not_before));
    let usage = match entry.purpose {
        CertificatePurpose::Server => KeyUsage::server_auth(),
        CertificatePurpose::Client => KeyUsage::client_auth(),
    };
    let algorithms = provider().signature_verification_algorithms.all;
    certificate.verify_for_usage(algorithms, &anchors, &[], time, usage, None, None)?;
    for name in &entry.names {
        let name = rustls::pki_types::ServerName::try_from(&**name);
        let name = name.map_err(|_| webpki::Error::MalformedDnsIdentifier)?;
        certificate.verify_is_valid_for_subject_name(&name)?;
    }
    // The one name of a client is what machines know it by.
    match entry.purpose == CertificatePurpose::Client
        && !certificate
            .valid_dns_names()
            .eq(entry.names.iter().map(String::as_str))
    {
        true => Err(webpki::Error::MalformedDnsIdentifier),
        false => Ok(()),
    }
}
