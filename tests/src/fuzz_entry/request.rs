//! Requests as they come off the wire.

/// Has the server decode and judge a request. Its first byte chooses which.
pub(super) fn judge(data: &[u8]) {
    let Some((&method, message)) = data.split_first() else {
        return;
    };
    let Some(refusal) = dual16_server::fuzzing::judge(method, message) else {
        return;
    };
    // It travels in a header, and what reads it may take 16 KiB of headers and no more. Three bytes
    // for each of the message: it is percent-encoded there.
    let bytes = 3 * refusal.message().len() + refusal.details().len() * 4 / 3;
    assert!(bytes <= 12 << 10, "a refusal of {bytes} bytes");
    assert_ne!(refusal.code(), tonic::Code::Internal, "{refusal}");
}
