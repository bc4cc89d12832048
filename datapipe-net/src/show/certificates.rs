//! Certificates of an authority.

use super::text::{escaped_line, fitted, utc};
use crate::authority::IssuedCertificate;

/// Certificates as a table, with lines of at most `columns` characters; `now` is the time, in
/// seconds since 1970.
pub fn certificates_table(certificates: &[IssuedCertificate], now: u64, columns: usize) -> String {
    let row = |use_: &str, state: &str, end: &str, serial: &str, names: &str| {
        let line = format!("{use_:<6}  {state:<13}  {end:<20}  {serial:<32}  {names}");
        fitted(&line, columns) + "\n"
    };
    let mut table = row("use", "state", "until (UTC)", "serial number", "names");
    for certificate in certificates {
        let state = match certificate {
            IssuedCertificate {
                revoked: Some(_), ..
            } => "revoked",
            IssuedCertificate { not_after, .. } if *not_after < now => "expired",
            IssuedCertificate { not_before, .. } if *not_before > now => "not valid yet",
            _ => "valid",
        };
        let names: Vec<_> = certificate
            .names
            .iter()
            .map(|name| escaped_line(name))
            .collect();
        table += &row(
            &certificate.purpose.to_string(),
            state,
            &date(certificate.not_after),
            &certificate.serial.to_string(),
            &names.join(" "),
        );
    }
    table
}

/// Formats a time in seconds since 1970 as date and time in UTC: `2026-11-29T10:00:00Z`.
pub fn date(seconds: u64) -> String {
    utc(seconds.saturating_mul(1000))
}
