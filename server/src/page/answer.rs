//! Answers of the page's port: what each carries, and how a refusal of the API is told in HTTP.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::rpc::{ApiError, code_name};

/// Scripts, styles and calls of the page's own, and nothing of anybody else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What every answer says to the browser. What is shown may be somebody's alone, so nothing keeps it.
const HARDENING: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// A call that the API refused.
#[derive(Debug)]
pub(super) struct Refused(Status);

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status) = self;
        let code = match status.code() {
            Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let told = json!({"code": code_name(status.code()), "message": status.message()});
        let mut answer = json_answer(&told);
        *answer.status_mut() = code;
        if code == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            answer
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        answer
    }
}

/// A file of the page.
pub(super) fn static_answer(kind: &'static str, text: &'static str) -> Response {
    typed(kind, Body::from(text))
}

/// JSON.
pub(super) fn json_answer(value: &Value) -> Response {
    typed("application/json", Body::from(value.to_string()))
}

/// A file to keep: never shown where it came from, whatever is in it.
pub(super) fn attached(kind: &'static str, size: u64, body: Body) -> Response {
    let mut answer = typed(kind, body);
    let headers = answer.headers_mut();
    let attached = HeaderValue::from_static("attachment");
    headers.insert(header::CONTENT_DISPOSITION, attached);
    headers.insert(header::CONTENT_LENGTH, size.into());
    answer
}

fn typed(kind: &'static str, body: Body) -> Response {
    let mut answer = Response::new(body);
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// The answer with what every one says to the browser.
pub(super) fn hardened(mut answer: Response) -> Response {
    for (name, value) in HARDENING {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}
