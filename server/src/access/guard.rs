//! Who calls, and whether it may: by a bearer token or by a client certificate, against the row of the
//! method that is called.

use std::sync::Arc;

use tonic::codegen::http::{HeaderMap, header::AUTHORIZATION};

use super::{Denied, caller::Caller, tokens::Tokens};
use crate::{
    clock::Clock,
    principal::Principal,
    reload::Latest,
    rpc::policy::{Callers, Policy},
};

/// What callers are judged by.
pub(crate) struct Guard {
    /// Who there is; `None` = nobody is asked, and everyone may do everything.
    pub(crate) tokens: Option<Latest<Tokens>>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Guard {
    /// Whether callers have to say who they are.
    pub(crate) fn asks(&self) -> bool {
        self.tokens.is_some()
    }

    /// The caller of the method with this row, by its headers or the names in its client certificate, if it
    /// may call it; else who it was, if that is known,
    /// and why it may not.
    pub(crate) fn judge(
        &self,
        policy: Option<&'static Policy>,
        headers: &HeaderMap,
        certificate_names: &[String],
    ) -> Result<(&'static Policy, Caller), (Option<Principal>, Denied)> {
        let caller = match &self.tokens {
            None => Caller::anonymous(),
            Some(_) if policy.is_some_and(|policy| policy.callers == Callers::Anyone) => {
                Caller::nobody()
            }
            Some(tokens) => self
                .identify(&tokens.get(), headers, certificate_names)
                .map_err(|denied| (None, denied))?,
        };
        match policy {
            None => Err((Some(caller.principal), Denied::NoMethod)),
            Some(policy) => match policy.callers {
                Callers::With(roles) if !caller.roles.meets(roles) => {
                    let denied = Denied::Role {
                        principal: caller.principal.to_string(),
                        rpc: policy.rpc(),
                        needed: roles.to_string(),
                    };
                    Err((Some(caller.principal), denied))
                }
                _ => Ok((policy, caller)),
            },
        }
    }

    /// A token decides if there is one: whoever sends a wrong one is not let in by a certificate.
    fn identify(
        &self,
        tokens: &Tokens,
        headers: &HeaderMap,
        certificate_names: &[String],
    ) -> Result<Caller, Denied> {
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        match (sent.next(), sent.next()) {
            (Some(value), None) => {
                let token = value.to_str().ok().and_then(bearer);
                let token = token.ok_or(Denied::UnknownToken)?;
                tokens.caller_of_token(token, self.clock.wall()).cloned()
            }
            (Some(_), Some(_)) => Err(Denied::UnknownToken),
            (None, _) => {
                let named = tokens.caller_of_certificate(certificate_names);
                named.cloned().ok_or(Denied::NoCredentials)
            }
        }
    }
}

/// The token of `Bearer TOKEN`; the scheme in any case, by RFC 7235.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bearer_tokens_are_read() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bEARER  abc "), Some("abc"));
        for bad in ["", "abc", "Bearer", "Bearer ", "Basic abc", "Bearerabc"] {
            assert_eq!(bearer(bad), None, "{bad:?}");
        }
    }
}
