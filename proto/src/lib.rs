//! The `dual16.v1` API. The `.proto` files beside this crate are the reference; this is what is
//! generated from them, plus the descriptor set that the server offers by reflection, the [`digest`]s
//! that name blobs and specs, and messages as [`json`].

pub mod digest;
pub mod json;

/// Version 1 of the API.
pub mod v1 {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("dual16.v1");
}

/// The contract that KEDA asks by how many workers are wanted.
pub mod externalscaler {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("externalscaler");
}

/// The encoded `google.protobuf.FileDescriptorSet` of [`v1`] and [`externalscaler`], imports included.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/dual16_v1.bin"));
