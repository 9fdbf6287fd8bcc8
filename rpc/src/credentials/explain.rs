//! What a failed TLS connection means to the person who wanted it.

use std::{error::Error, io};

use tokio_rustls::rustls::{self, CertificateError, InvalidMessage};

/// How rustls tells of an alert.
const ALERT: &str = "received fatal alert: ";

/// Why TLS did not come about, and what would help; `None` if the error has nothing to do with TLS.
///
/// Such an error does not go away by trying again.
pub fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = tls_error(error) {
            return Some(text(tls));
        }
        if let Some(h2) = error.downcast_ref::<h2::Error>()
            && h2.reason() == Some(h2::Reason::FRAME_SIZE_ERROR)
        {
            // The first bytes of a TLS alert, read as a frame, announce more than a frame may hold.
            return Some("the server does not speak plain HTTP/2; use https://".to_owned());
        }
        // HTTP/2 keeps no more than the text of what broke its connection.
        if let Some(alert) = error.to_string().strip_prefix(ALERT) {
            return Some(alert_text(alert));
        }
        next = error.source();
    }
    None
}

/// An I/O error hides what it wraps from `source`, which goes one step further at once.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(|io| io.get_ref());
    match wrapped {
        None => error.downcast_ref(),
        Some(wrapped) => tls_error(wrapped),
    }
}

fn text(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(problem) => format!(
            "the server's certificate is not accepted: {}",
            certificate_text(problem)
        ),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS; use http://".to_owned()
        }
        rustls::Error::AlertReceived(alert) => alert_text(&format!("{alert:?}")),
        other => format!("TLS failed: {other}"),
    }
}

/// What the other side says by an alert, by its name in the TLS specification, in camel case.
fn alert_text(alert: &str) -> String {
    match alert {
        "CertificateRequired" => {
            "the server asks for a client certificate; name one with --tls-cert and --tls-key"
                .to_owned()
        }
        "UnknownCA"
        | "BadCertificate"
        | "CertificateExpired"
        | "CertificateRevoked"
        | "CertificateUnknown"
        | "UnsupportedCertificate"
        | "DecryptError"
        | "AccessDenied" => {
            format!(
                "the server does not accept the client certificate of --tls-cert ({alert}); name one \
                 that an authority of its --tls-client-ca has signed"
            )
        }
        other => format!("TLS failed: the server sent the alert {other}"),
    }
}

fn certificate_text(problem: &CertificateError) -> String {
    match problem {
        CertificateError::UnknownIssuer => {
            "it is signed by an authority that is not trusted here; \
             name that authority's certificate with --tls-ca"
                .to_owned()
        }
        // The same name, another key: an authority that was made anew, most likely.
        CertificateError::BadSignature => {
            "it is signed by an authority that bears the name of one that is trusted here, and is not \
             trusted here itself; name its own certificate with --tls-ca"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired, or the clock of this machine is wrong; have it renewed, or set the clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet, or the clock of this machine is wrong; wait, or set the clock".to_owned()
        }
        CertificateError::NotValidForName => {
            "it is for another name; use the name that it is for".to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "it is not for {}, but for {}; use a name that it is for",
            expected.to_str(),
            match presented.is_empty() {
                true => "no name at all".to_owned(),
                false => presented.join(", "),
            }
        ),
        other => other.to_string(),
    }
}

/// The cause that a person can act upon: the last of an error's chain.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_however_deep_it_is_wrapped() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let once = io::Error::other(tls);
        let twice = io::Error::other(once);
        assert!(explain(&twice).is_some_and(|text| text.contains("--tls-ca")));
        assert_eq!(explain(&io::Error::other("refused")), None);
    }

    #[test]
    fn an_alert_is_known_by_its_type_and_by_its_text() {
        let alert = rustls::AlertDescription::CertificateRequired;
        let alert = rustls::Error::AlertReceived(alert);
        let text = io::Error::other(alert.to_string());
        for error in [io::Error::other(alert), text] {
            assert!(explain(&error).is_some_and(|text| text.contains("--tls-cert")));
        }
    }
}
