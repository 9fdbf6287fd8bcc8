//! What the chaos tests share: a way to call a server that comes and goes, a job small enough to run
//! by the hundred, a proxy that cuts, and the plan of what goes wrong when.

mod api;
mod hostile;
mod job;
mod load;
pub(crate) mod memory;
mod plan;
mod proxy;

pub(crate) use self::{
    api::Api,
    hostile::Hostile,
    job::{TinyJob, comparable, reference, results, undisturbed},
    load::{Load, Watched},
    plan::{Plan, steady_port},
    proxy::{Budget, Proxy},
};
