//! A private authority in a directory: it issues the certificates with which machines know each
//! other, and revokes them.
//!
//! ```text
//!   init ---> DIR/ ca.key ca.pem crl.pem issued.json server.pem server.key client.pem client.key
//!              |     made under another name, and renamed when it is whole
//!   issue --> NAME/ client.pem client.key ca.pem crl.pem: what one machine needs
//!              |     entered in issued.json before it gets its name
//!   revoke -> issued.json, then crl.pem: each replaced at once
//! ```
//!
//! The files are those that [`MachineIdentity`](crate::tls::MachineIdentity) reads. Commands that
//! change a directory hold its lock. A command that was interrupted leaves what was there before,
//! or what it was to leave; the next one completes a list that was not written.
//!
//! This module does not decide what a machine may do, and does not read the files of other
//! authorities but their lists beside its own.

mod certificates; // certificates and lists, signed
mod directory; // locked directories, and new ones
mod error; // failures
mod names; // names of machines
mod private_authority; // the authority: init, open, issue, revoke
mod register; // record of what was issued and revoked
mod revocation_list; // the file of revoked certificates
mod validity; // time for which a certificate is valid

pub use error::AuthorityError;
pub use private_authority::{InitRequest, PrivateAuthority, Revocation};
pub use register::{CertificatePurpose, CertificateSerial, IssuedCertificate, Selection};
pub use validity::Validity;
