//! What the perimeter hands on to the handlers: who calls, and where to say what the call is about.

use std::{
    fmt::Display,
    sync::{Arc, OnceLock},
};

use tonic::Request;

use super::{Denied, caller::Caller};

/// One call's scope, in the extensions of its request.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    caller: Caller,
    subject: Subject,
}

/// The resource that a call turned out to be about, for the audit log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject(Arc<OnceLock<String>>);

impl Subject {
    pub(super) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

impl Scope {
    pub(crate) fn new(caller: Caller, subject: Subject) -> Self {
        Self { caller, subject }
    }

    /// The scope of a request. One that did not come through the perimeter is refused.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Denied> {
        let scope = request.extensions().get::<Self>();
        scope.cloned().ok_or(Denied::NoCredentials)
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Names what the call is about: a job, a task, a blob. The first name stays.
    pub(crate) fn about(&self, resource: impl Display) {
        self.subject.0.get_or_init(|| resource.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_from_outside_the_perimeter_is_refused() {
        assert_eq!(
            Scope::of(&Request::new(())).unwrap_err(),
            Denied::NoCredentials
        );
    }

    #[test]
    fn the_perimeter_learns_what_the_call_is_about() {
        let subject = Subject::default();
        let mut request = Request::new(());
        let scope = Scope::new(Caller::anonymous(), subject.clone());
        request.extensions_mut().insert(scope);
        Scope::of(&request).unwrap().about("jobs/1");
        Scope::of(&request).unwrap().about("jobs/2");
        assert_eq!(subject.get(), Some("jobs/1"));
    }
}
