//! Workers against a real server over loopback, with scripted runners in place of the numerics.

mod cluster;
mod faults;
mod jobs;
mod starting;
