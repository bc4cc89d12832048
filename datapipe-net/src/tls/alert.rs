//! Alerts: reasons for which a peer ends a connection, or its end.

use std::fmt;

/// Reason for which a peer ended a TLS connection, by the number of RFC 8446, section 6.
///
/// Exhaustive: it is a number of the protocol, and every number is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert(pub u8);

impl Alert {
    /// End of the peer's data.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// A record of a kind that is not allowed at its place.
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    /// A record that was changed, moved or repeated.
    pub const BAD_RECORD_MAC: Self = Self(20);
    /// A record that is too long.
    pub const RECORD_OVERFLOW: Self = Self(22);
    /// A message that cannot be decoded.
    pub const DECODE_ERROR: Self = Self(50);

    /// Name of the alert in RFC 8446, and what the peer means by it.
    fn describe(self) -> Option<(&'static str, &'static str)> {
        Some(match self.0 {
            0 => ("close_notify", "it has closed the connection"),
            10 => ("unexpected_message", "a message came at the wrong place"),
            20 => ("bad_record_mac", "data were changed on their way"),
            22 => ("record_overflow", "a record was too long"),
            40 => (
                "handshake_failure",
                "the two have no cipher, key exchange or signature in common",
            ),
            42 => (
                "bad_certificate",
                "the certificate of this machine is damaged, or has another name",
            ),
            43 => (
                "unsupported_certificate",
                "the certificate of this machine is not for this use: a client needs a client's, \
                 a server a server's",
            ),
            44 => (
                "certificate_revoked",
                "the certificate of this machine is revoked",
            ),
            45 => (
                "certificate_expired",
                "the certificate of this machine has expired or is not valid yet: compare its \
                 dates with the clocks of both machines",
            ),
            46 => (
                "certificate_unknown",
                "the certificate of this machine was refused: the log of the other machine has \
                 the reason",
            ),
            47 => ("illegal_parameter", "a message has a wrong value"),
            48 => (
                "unknown_ca",
                "the authority of this machine's certificate is not one of those that the other \
                 machine accepts, or has no list of revoked certificates there",
            ),
            49 => ("access_denied", "the certificate gives no access"),
            50 => ("decode_error", "a message cannot be decoded"),
            51 => ("decrypt_error", "a signature is wrong"),
            70 => ("protocol_version", "it does not support TLS 1.3"),
            71 => ("insufficient_security", "it requires stronger ciphers"),
            80 => ("internal_error", "it failed"),
            90 => ("user_canceled", "it was cancelled"),
            109 => ("missing_extension", "a message lacks an extension"),
            110 => (
                "unsupported_extension",
                "a message has an extension too many",
            ),
            112 => ("unrecognized_name", "it does not serve this name"),
            116 => ("certificate_required", "no certificate was presented"),
            120 => (
                "no_application_protocol",
                "it does not speak the protocol datapipe/1",
            ),
            _ => return None,
        })
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.describe() {
            Some((name, meaning)) => write!(f, "alert {name} ({}): {meaning}", self.0),
            None => write!(f, "alert {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_named() {
        assert_eq!(
            Alert::CLOSE_NOTIFY.to_string(),
            "alert close_notify (0): it has closed the connection"
        );
        assert_eq!(Alert(255).to_string(), "alert 255");
        assert!(Alert(44).to_string().contains("revoked"));
    }
}
