//! Inputs that are small and say they are large: made to exhaust memory, the stack or patience.

use std::io::{Cursor, Write as _};

use dual16_tests::fuzz_entry::target;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::measure::check;

#[test]
fn a_safetensors_header_that_says_it_is_huge() {
    for length in [50_u64, 99_999_999, 100_000_000, 1 << 40, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(br#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#);
        check(&target("safetensors"), "huge header", &bytes);
    }
}

#[test]
fn tensors_whose_shapes_and_offsets_overflow() {
    for (shape, offsets) in [
        ("[4611686018427387905,4]", "[0,16]"),
        ("[18446744073709551615,18446744073709551615]", "[0,0]"),
        ("[0,18446744073709551615]", "[0,0]"),
        ("[1]", "[18446744073709551612,0]"),
        ("[1]", "[8,4]"),
        ("[1073741824]", "[0,4294967296]"),
    ] {
        let header =
            format!(r#"{{"x":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        check(&target("safetensors"), &header, &bytes);
    }
}

#[test]
fn json_nested_as_deep_as_it_fits() {
    let header = "[".repeat(100_000);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    check(&target("safetensors"), "deep JSON", &bytes);
}

#[test]
fn a_npy_header_that_says_it_is_huge_or_nests_without_end() {
    let version_1 = |header: &str| {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\0", &length[..], header.as_bytes()].concat()
    };
    let version_2 = |length: u32| {
        let header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        [b"\x93NUMPY\x02\0", &length.to_le_bytes()[..], header].concat()
    };
    let with_shape = |shape: &str| {
        version_1(&format!(
            "{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        ))
    };
    let cases = [
        version_2(u32::MAX),
        version_2(1 << 30),
        version_1(&"(".repeat(60_000)),
        version_1(&"{'a':".repeat(12_000)),
        with_shape(&"(".repeat(50_000)),
        with_shape("(4611686018427387905, 4)"),
        with_shape("(18446744073709551615,)"),
        with_shape("(99999999999999999999999,)"),
        with_shape("(0, 18446744073709551615)"),
        with_shape("(1073741824,)"),
        with_shape("(-1,)"),
    ];
    for (index, bytes) in cases.iter().enumerate() {
        check(&target("npz"), &format!("header {index}"), bytes);
    }
}

#[test]
fn an_archive_that_unpacks_to_a_thousand_times_its_size() {
    // Nobody asks for these: what the model has no input for must not be unpacked at all.
    let names = ["a.npy", "labels.npy", "notes.npy", "more.npy"];
    check(
        &target("npz"),
        "notes",
        &archive(&names, &vec![0; 16 << 20]),
    );
    // Somebody asks for this one, and it holds more than its header says.
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
    let mut x = [
        b"\x93NUMPY\x01\0",
        &[header.len() as u8, 0][..],
        header.as_bytes(),
    ]
    .concat();
    x.resize(16 << 20, 0);
    check(&target("npz"), "x", &archive(&["x.npy"], &x));
}

#[test]
fn protocol_buffers_nested_as_deep_as_they_fit() {
    // ModelProto.graph > node > attribute > g > node > attribute > g ...
    let mut inner = Vec::new();
    for level in 0..3_999 {
        let field = [0x32, 0x2a, 0x0a][level % 3];
        inner = message(field, &inner);
    }
    let model = message(0x3a, &inner);
    check(&target("onnx"), "deep graph", &model);
    let mut request = vec![0];
    request.extend_from_slice(&inner);
    check(&target("request"), "deep request", &request);
}

#[test]
fn messages_of_nothing_but_empty_messages() {
    // Two bytes on the wire are a whole message in memory; the bound is on their number.
    let nodes = [0x0a, 0].repeat(8_000);
    check(&target("onnx"), "empty nodes", &message(0x3a, &nodes));
    let attributes = message(0x0a, &[0x2a, 0].repeat(8_000));
    check(
        &target("onnx"),
        "empty attributes",
        &message(0x3a, &attributes),
    );
    let tensors = [0x2a, 0].repeat(8_000);
    check(
        &target("onnx"),
        "empty initializers",
        &message(0x3a, &tensors),
    );
}

#[test]
fn requests_of_nothing_but_empty_messages() {
    // As above, and each of them is wrong in several ways: what is wrong must not add up either. One
    // more than a power of two is where a growing list takes most.
    let many = |tag: u8| [tag, 0].repeat((256 << 10) + 1);
    for (method, name, request) in [
        (0, "calibration", message(0x0a, &many(0x1a))),
        (0, "evaluation", message(0x0a, &many(0x22))),
        (
            0,
            "external data",
            message(0x0a, &message(0x0a, &many(0x12))),
        ),
        (0, "settings", message(0x0a, &message(0x2a, &many(0x5a)))),
        (1, "names", many(0x0a)),
        (2, "states", message(0x1a, &vec![0; 256 << 10])),
        (2, "known states", message(0x1a, &vec![1; 256 << 10])),
        (3, "names", many(0x0a)),
        (4, "names", many(0x0a)),
        (5, "names", many(0x0a)),
        (6, "digests", many(0x0a)),
        (7, "digests", many(0x0a)),
        (8, "leases", many(0x12)),
        (9, "events", many(0x22)),
        (9, "blobs", many(0x3a)),
        (9, "maps", message(0x2a, &many(0x12))),
        (9, "artifacts", message(0x32, &many(0x0a))),
        (10, "leases", many(0x0a)),
        (11, "leases", many(0x12)),
    ] {
        let request = [&[method][..], &request].concat();
        check(&target("request"), &format!("{method}: {name}"), &request);
    }
}

#[test]
fn a_request_whose_every_field_is_wrong_and_long() {
    use dual16_proto::v1;
    use prost::Message as _;

    let path = "../".repeat(20_000);
    let file = v1::InputFile {
        name: path.clone(),
        digest: path.clone(),
        size: u64::MAX,
    };
    let spec = v1::JobSpec {
        calibration: vec![file; 4],
        ..v1::JobSpec::default()
    };
    let create = v1::CreateJobRequest {
        spec: Some(spec),
        display_name: "\u{7}".repeat(5_000),
        ..v1::CreateJobRequest::default()
    };
    let get = v1::GetJobRequest { name: path.clone() };
    let missing = v1::FindMissingRequest {
        digests: vec![path; 8],
    };
    for (method, message) in [
        (0, create.encode_to_vec()),
        (1, get.encode_to_vec()),
        (6, missing.encode_to_vec()),
    ] {
        let request = [&[method][..], &message].concat();
        check(&target("request"), &format!("method {method}"), &request);
    }
}

#[test]
fn settings_that_nest_and_repeat() {
    for text in [
        "[".repeat(10_000),
        "a.".repeat(5_000) + "b = 1",
        "x = ".to_owned() + &"[".repeat(5_000),
        "{".repeat(2_000) + "=split",
        "[[".repeat(2_000) + "=split",
        "**/".repeat(2_000) + "=split",
        "x=1e".to_owned() + &"9".repeat(1_000),
    ] {
        check(&target("config"), "nesting", text.as_bytes());
    }
}

/// A field of protocol buffers that holds bytes.
fn message(field: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

fn archive(names: &[&str], content: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for name in names {
        archive.start_file(*name, deflated).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}
