//! The layer before every service: finds the rule, the caller, and writes the audit log.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{
    Code, Status,
    codegen::http::{HeaderMap, Request, Response, header::AUTHORIZATION},
};
use tower::{Layer, Service};

use super::{
    Denied,
    audit::{Audit, Call, trace_id},
    caller::Caller,
    rules::{self, Need, Rule, Trace},
    scope::{Scope, Subject},
    tokens::Tokens,
};
use crate::{
    accept::Peer,
    clock::Clock,
    principal::Principal,
    reload::Latest,
    rpc::{ApiError, Shed},
};

const GRPC_STATUS: &str = "grpc-status";

/// What the layer decides by.
pub(crate) struct Guard {
    /// Who there is; `None` = nobody is asked, and everyone may do everything.
    pub(crate) tokens: Option<Latest<Tokens>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) audit: Arc<Audit>,
}

impl Guard {
    /// Whether everyone may do everything.
    pub(crate) fn asks_nobody(&self) -> bool {
        self.tokens.is_none()
    }

    /// The scope of a call that did not come over gRPC, by the rule of the RPC that it stands for. It leaves
    /// nothing in the audit log: only RPCs that change nothing may be called so.
    pub(crate) fn admit(&self, rpc: &str, headers: &HeaderMap) -> Result<Scope, Denied> {
        let rule = rules::find(rpc).filter(|rule| rule.trace == Trace::No);
        let rule = rule.ok_or(Denied::NoRule)?;
        let judged = self.judge(Some(rule), headers, None);
        let caller = judged.map_err(|(_, denied)| denied)?;
        Ok(Scope::new(caller, Subject::default()))
    }

    fn judge(
        &self,
        rule: Option<&'static Rule>,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Caller, (Option<Principal>, Denied)> {
        let Some(tokens) = &self.tokens else {
            return Ok(Caller::anonymous());
        };
        if open_to_all(rule) {
            return Ok(Caller::nobody());
        }
        let tokens = tokens.get();
        let caller = self
            .identify(&tokens, headers, peer)
            .map_err(|denied| (None, denied))?;
        let refuse = |denied| Err((Some(caller.principal.clone()), denied));
        let Some(rule) = rule else {
            return refuse(Denied::NoRule);
        };
        match rule.need {
            Need::Role(needed) if !caller.roles.meets(needed) => refuse(Denied::Role {
                principal: caller.principal.to_string(),
                rpc: rule.rpc(),
                needed: needed.to_string(),
            }),
            _ => Ok(caller),
        }
    }

    /// A token decides if there is one: whoever sends a wrong one is not let in by a certificate.
    fn identify(
        &self,
        tokens: &Tokens,
        headers: &HeaderMap,
        peer: Option<&Peer>,
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
                let names = peer.map(|peer| peer.certificate_names.as_slice());
                let named = tokens.caller_of_certificate(names.unwrap_or_default());
                named.cloned().ok_or(Denied::NoCredentials)
            }
        }
    }
}

fn open_to_all(rule: Option<&Rule>) -> bool {
    rule.is_some_and(|rule| rule.need == Need::Nothing)
}

/// The token of `Bearer TOKEN`; the scheme in any case, by RFC 7235.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Puts a [`Guard`] before a service.
#[derive(Clone)]
pub(crate) struct AccessLayer(pub(crate) Arc<Guard>);

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            guard: Arc::clone(&self.0),
            inner,
        }
    }
}

/// A service behind a [`Guard`].
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    guard: Arc<Guard>,
    inner: S,
}

impl<S, Q, A> Service<Request<Q>> for Guarded<S>
where
    S: Service<Request<Q>, Response = Response<A>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    A: Default + Send + 'static,
{
    type Response = Response<A>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let rule = rules::find(request.uri().path());
        let peer = request.extensions().get::<Peer>();
        let judged = self.guard.judge(rule, request.headers(), peer);
        // Who may call what anyone may is as unknown as before.
        let asked = self.guard.tokens.is_none() || !open_to_all(rule);
        if let Some(peer) = peer.filter(|_| asked && judged.is_ok()) {
            peer.line.knows_its_caller();
        }
        let traced = rule.filter(|rule| rule.trace != Trace::No);
        let subject = Subject::default();
        let call = traced.map(|rule| {
            let principal = match &judged {
                Ok(caller) => Some(&caller.principal),
                Err((principal, _)) => principal.as_ref(),
            };
            let remote = peer.and_then(|peer| peer.addr);
            let audit = Arc::clone(&self.guard.audit);
            let trace = trace_id(request.headers());
            Call::new(audit, rule, principal, remote, trace, subject.clone())
        });
        let caller = match judged {
            Ok(caller) => caller,
            Err((_, denied)) => {
                let status = Status::from(ApiError::from(denied));
                return Box::pin(async move {
                    if let Some(call) = call {
                        call.ended(status.code()).await;
                    }
                    Ok(status.into_http())
                });
            }
        };
        request.extensions_mut().insert(Scope::new(caller, subject));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let shed = |answer: &Response<A>| answer.extensions().get::<Shed>().is_some();
            if let Some(call) = call {
                if answer.as_ref().is_ok_and(shed) {
                    call.forget();
                    return answer;
                }
                call.ended(match &answer {
                    Ok(response) => outcome(response.headers()),
                    Err(_) => Code::Internal,
                })
                .await;
            }
            answer
        })
    }
}

/// How a call with one answer ended: an error is told in the headers, success only after the body.
fn outcome(headers: &HeaderMap) -> Code {
    match headers.get(GRPC_STATUS) {
        Some(code) => Code::from_bytes(code.as_bytes()),
        None => Code::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn only_bearer_tokens_are_read() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bEARER  abc "), Some("abc"));
        for bad in ["", "abc", "Bearer", "Bearer ", "Basic abc", "Bearerabc"] {
            assert_eq!(bearer(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn outside_grpc_only_what_changes_nothing_is_admitted() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let guard = Guard {
            tokens: None,
            audit: Arc::new(Audit::open(Arc::clone(&clock), None).unwrap()),
            clock,
        };
        let headers = HeaderMap::new();
        let admit = |rpc| guard.admit(rpc, &headers);
        assert!(admit("/dual16.v1.JobService/ListJobs").is_ok());
        for refused in ["/dual16.v1.JobService/CancelJob", "/", ""] {
            assert_eq!(admit(refused).unwrap_err(), Denied::NoRule, "{refused:?}");
        }
    }

    #[test]
    fn an_outcome_is_read_from_the_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(outcome(&headers), Code::Ok);
        headers.insert(GRPC_STATUS, "5".parse().unwrap());
        assert_eq!(outcome(&headers), Code::NotFound);
    }
}
