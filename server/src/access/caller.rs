//! A caller: its principal, and the roles it comes with.

use std::fmt;

use serde::Deserialize;

use crate::principal::Principal;

/// What a caller may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Submit jobs; see and change its own
    Submit,
    /// Lease tasks and hand in results
    Worker,
    /// As submit, over everyone's jobs
    Admin,
    /// Ask how many workers are wanted, as KEDA does
    Scaler,
    /// Give jobs that it may submit a high priority
    Urgent,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Submit,
        Self::Worker,
        Self::Admin,
        Self::Scaler,
        Self::Urgent,
    ];

    /// As it stands in a tokens file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Worker => "worker",
            Self::Admin => "admin",
            Self::Scaler => "scaler",
            Self::Urgent => "urgent",
        }
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// All of them.
    pub const ALL: Self = Self::of(&Role::ALL);

    /// These.
    pub const fn of(roles: &[Role]) -> Self {
        let mut set = 0;
        let mut i = 0;
        // A `for` is not allowed in a constant.
        while i < roles.len() {
            set |= 1 << roles[i] as u8;
            i += 1;
        }
        Self(set)
    }

    /// Whether it is among them.
    pub fn has(self, role: Role) -> bool {
        self.meets(Self::of(&[role]))
    }

    /// Whether any of `others` is among them.
    pub fn meets(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }
}

/// "submit or admin".
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Role::ALL.into_iter().filter(|role| self.has(*role));
        f.write_str(&names.map(Role::name).collect::<Vec<_>>().join(" or "))
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its name.
    pub principal: Principal,
    /// What it may do.
    pub roles: Roles,
}

impl Caller {
    /// Anyone, on a server that asks nobody who they are: may do everything.
    pub fn anonymous() -> Self {
        Self {
            principal: Principal::anonymous(),
            roles: Roles::ALL,
        }
    }

    /// Someone who was not asked, at an RPC that anyone may call: may do nothing else.
    pub(super) fn nobody() -> Self {
        Self {
            principal: Principal::anonymous(),
            roles: Roles::default(),
        }
    }

    /// Whose jobs it may see: everyone's, or only this one's.
    pub fn confined_to(&self) -> Option<&Principal> {
        (!self.roles.has(Role::Admin)).then_some(&self.principal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_a_set() {
        let roles = Roles::of(&[Role::Submit, Role::Admin]);
        assert!(roles.has(Role::Submit) && roles.has(Role::Admin) && !roles.has(Role::Worker));
        assert!(roles.meets(Roles::of(&[Role::Admin, Role::Worker])));
        assert!(!Roles::default().meets(Roles::ALL));
        assert_eq!(roles.to_string(), "submit or admin");
    }

    #[test]
    fn only_an_admin_sees_the_jobs_of_others() {
        let mut caller = Caller {
            principal: "ci".parse().unwrap(),
            roles: Roles::of(&[Role::Submit, Role::Worker]),
        };
        assert_eq!(caller.confined_to(), Some(&caller.principal));
        caller.roles = Roles::of(&[Role::Admin]);
        assert_eq!(caller.confined_to(), None);
    }
}
