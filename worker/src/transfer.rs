//! Blobs between the server and local files, and what it means to a task when one does not come
//! across. Knows no cache.

use std::{fs::File, io, path::Path};

use dual16_rpc::{Blob, Connection, TransferError};
use dual16_telemetry::nameless::nameless;
use tonic::Code;

use crate::{digest::Digest, link::is_full};

/// Writes a blob to the file at `path` and returns its size in bytes. Tries for as long as the server
/// is away; drop the future to give up.
pub(crate) async fn download(
    connection: &Connection,
    digest: &Digest,
    path: &Path,
) -> io::Result<u64> {
    let done = async {
        let file = tokio::fs::File::create(path).await?.into_std().await;
        let name = digest.to_string();
        connection.download(&name, None, file, &|_| {}).await
    };
    let (_, size) = done.await.map_err(|error| error_for_owner(digest, error))?;
    Ok(size)
}

/// Brings the server the blob in the file at `path`, of `size` bytes, unless it has it. Tries as
/// [`download`] does.
pub(crate) async fn upload(
    connection: &Connection,
    digest: &Digest,
    path: &Path,
    size: u64,
) -> io::Result<()> {
    let name = digest.to_string();
    let path = path.to_owned();
    let blob = Blob {
        digest: &name,
        size,
    };
    let sent = connection.upload(blob, move || File::open(&path), &|_| {});
    sent.await.map_err(|error| error_for_owner(digest, error))
}

/// The error as the owner of the job sees it, who must not learn where the worker keeps its files.
fn error_for_owner(digest: &Digest, error: TransferError) -> io::Error {
    let kind = match &error {
        TransferError::Call(call) if call.status.code() == Code::NotFound => {
            io::ErrorKind::NotFound
        }
        TransferError::Call(call) if is_full(&call.status) => io::ErrorKind::QuotaExceeded,
        TransferError::Call(_) => io::ErrorKind::Other,
        TransferError::Local(source) => source.kind(),
        TransferError::WrongSize { .. } => io::ErrorKind::UnexpectedEof,
        TransferError::Changed(_) | TransferError::Damaged { .. } => io::ErrorKind::InvalidData,
    };
    let why = match error {
        TransferError::Local(source) => format!("a file of the worker's: {}", nameless(source)),
        error => error.to_string(),
    };
    io::Error::new(kind, format!("blob {digest}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dual16_rpc::{Address, CallError, credentials::Credentials};
    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;
    use crate::{link::Link, runner::TaskError};

    #[tokio::test]
    async fn of_a_file_that_is_gone_the_blob_is_named_and_not_the_place() {
        let error = TransferError::Local(File::open("gone/blob").unwrap_err());
        let digest = Digest::of(b"");
        let error = error_for_owner(&digest, error);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = error.to_string();
        assert!(error.contains(&digest.to_string()), "{error}");
        assert!(!error.contains("gone"), "{error}");
        let address = Address::new("h:1", &Credentials::default(), || None).unwrap();
        let connection = Connection::new(&address, Arc::new(Link::new("h:1")));
        let error = download(&connection, &digest, Path::new("gone/blob")).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("worker's") && !error.contains("gone"),
            "{error}"
        );
    }

    #[test]
    fn a_full_storage_is_the_tasks_reason() {
        let mut details = ErrorDetails::new();
        details.set_error_info("STORAGE_FULL", "dual16", [("a".to_owned(), "b".to_owned())]);
        let full = Status::with_error_details(Code::ResourceExhausted, "no room", details);
        let error = TransferError::Call(CallError {
            call: "Upload",
            status: full,
            waited: None,
            repeated: false,
        });
        let error = error_for_owner(&Digest::of(b""), error);
        assert_eq!(TaskError::storing("it", &error).code, "STORAGE_FULL");
    }
}
