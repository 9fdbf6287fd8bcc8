//! Compiles the protos with protox, so that building needs no protoc, and writes the
//! descriptor set that the server offers by reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: [&str; 6] = [
    "dual16/v1/quantize.proto",
    "dual16/v1/jobs.proto",
    "dual16/v1/blobs.proto",
    "dual16/v1/workers.proto",
    "dual16/v1/info.proto",
    "externalscaler/externalscaler.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=dual16");
    println!("cargo:rerun-if-changed=externalscaler");
    let descriptors = protox::compile(PROTOS, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("dual16_v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".dual16.v1.UploadRequest.data")
        .bytes(".dual16.v1.DownloadResponse.data")
        // Those that hold figures are many times larger than the others, and a list of empty events
        // takes the size of the largest for each.
        .boxed(".dual16.v1.EventDetail.detail.layer_accumulated")
        .boxed(".dual16.v1.EventDetail.detail.output_measured")
        .boxed(".dual16.v1.EventDetail.detail.operator_measured")
        .boxed(".dual16.v1.EventDetail.detail.mended")
        .boxed(".dual16.v1.EventDetail.detail.sensitivity_measured")
        .compile_fds(descriptors)?;
    Ok(())
}
