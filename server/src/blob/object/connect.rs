//! The URL of a place for blobs, and the object store that it names. How to sign is for the variables that the
//! tools of each provider know: AWS_*, GOOGLE_*, AZURE_*. A URL has no credentials, so that it can be named.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use object_store::{
    ObjectStore, ObjectStoreExt as _, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder, path::Path, signer::Signer,
};
use tokio_rustls::rustls::crypto::ring;

use super::{
    super::BlobError,
    presign::{Presign, Presigner},
};

/// A store that does not answer for so long fails the call; whoever made it tries again.
const RETRY: Duration = Duration::from_secs(20);
/// The same for the first call, which says whether the URL is right.
const FIRST_ANSWER: Duration = Duration::from_secs(60);
/// Says which layout the blobs have; also that this server can write.
const FORMAT: &[u8] = b"dual16 blobs 1\n";

/// Where blobs lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a directory of this machine.
    Files(PathBuf),
    /// In an object store.
    Bucket(Bucket),
}

/// Part of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    kind: Kind,
    name: String,
    prefix: Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    S3,
    Google,
    Azure,
}

/// The URL names no place for blobs.
#[derive(Debug, thiserror::Error)]
#[error(
    "--blobs is not of the form s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///PATH: {0}"
)]
pub struct InvalidUrl(String);

impl FromStr for Place {
    type Err = InvalidUrl;

    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        let invalid = |what: &str| InvalidUrl(what.to_owned());
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| invalid("it has no scheme"))?;
        let kind = match scheme {
            "file" if rest.starts_with('/') => return Ok(Self::Files(rest.into())),
            "file" => return Err(invalid("the path of file:// has to begin with /")),
            "s3" => Kind::S3,
            "gs" => Kind::Google,
            "az" => Kind::Azure,
            _ => return Err(invalid("it has another scheme")),
        };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains(['@', '?', '#']) {
            return Err(invalid(
                "it has more than a bucket and a prefix; credentials come from the environment",
            ));
        }
        if name.is_empty() || name.contains(':') {
            return Err(invalid(
                "it names no bucket; another host comes from AWS_ENDPOINT",
            ));
        }
        let prefix = Path::parse(prefix.trim_end_matches('/'));
        let prefix = prefix.map_err(|error| InvalidUrl(error.to_string()))?;
        Ok(Self::Bucket(Bucket {
            kind,
            name: name.to_owned(),
            prefix,
        }))
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::S3 => "s3",
            Kind::Google => "gs",
            Kind::Azure => "az",
        };
        write!(formatter, "{scheme}://{}/{}", self.name, self.prefix)
    }
}

impl Bucket {
    /// Where the blobs lie in it.
    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The bucket, once it was written to and read.
    ///
    /// # Errors
    /// What the environment lacks, or what the store said.
    pub(crate) async fn connect(&self) -> Result<Arc<dyn ObjectStore>, BlobError> {
        // One that was chosen before is as good.
        let _ = ring::default_provider().install_default();
        let objects = self.build()?;
        let key = self.prefix.clone().join("format");
        let look = async {
            match objects.get(&key).await {
                Err(object_store::Error::NotFound { .. }) => {
                    objects.put(&key, Bytes::from_static(FORMAT).into()).await?;
                    Ok(objects.get(&key).await?.bytes().await?)
                }
                found => Ok::<_, object_store::Error>(found?.bytes().await?),
            }
        };
        let other = |what: String| BlobError::Io(std::io::Error::other(what));
        let found = tokio::time::timeout(FIRST_ANSWER, look)
            .await
            .map_err(|_| other("it does not answer".into()))??;
        if found != FORMAT {
            return Err(other(format!(
                "its object {key} is not one of this version; use the version that wrote it, or another prefix"
            )));
        }
        Ok(objects)
    }

    /// What signs URLs of the bucket's objects, once it has signed one.
    ///
    /// # Errors
    /// What the environment lacks for that.
    pub(super) async fn presigner(&self, presign: &Presign) -> Result<Presigner, BlobError> {
        let Presign {
            endpoint,
            valid_for,
        } = presign;
        let signer: Arc<dyn Signer> = match (self.kind, endpoint) {
            (Kind::S3, Some(endpoint)) => Arc::new(self.s3().with_endpoint(endpoint).build()?),
            (Kind::S3, None) => Arc::new(self.s3().build()?),
            (Kind::Google, None) => Arc::new(self.google().build()?),
            (Kind::Azure, None) => Arc::new(self.azure().build()?),
            (Kind::Google | Kind::Azure, Some(_)) => {
                let error = "--presign-endpoint is for s3:// alone";
                return Err(BlobError::Io(std::io::Error::other(error)));
            }
        };
        let probe = self.prefix.clone().join("format");
        Ok(Presigner::new(signer, *valid_for, &probe).await?)
    }

    fn build(&self) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
        Ok(match self.kind {
            Kind::S3 => Arc::new(self.s3().build()?),
            Kind::Google => Arc::new(self.google().build()?),
            Kind::Azure => Arc::new(self.azure().build()?),
        })
    }

    fn s3(&self) -> AmazonS3Builder {
        { AmazonS3Builder::from_env() }
            .with_bucket_name(&self.name)
            .with_retry(retry())
    }

    fn google(&self) -> GoogleCloudStorageBuilder {
        { GoogleCloudStorageBuilder::from_env() }
            .with_bucket_name(&self.name)
            .with_retry(retry())
    }

    fn azure(&self) -> MicrosoftAzureBuilder {
        { MicrosoftAzureBuilder::from_env() }
            .with_container_name(&self.name)
            .with_retry(retry())
    }
}

fn retry() -> RetryConfig {
    RetryConfig {
        retry_timeout: RETRY,
        ..RetryConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_bucket_and_a_prefix_or_a_path_and_nothing_secret() {
        let named = |url: &str| match url.parse::<Place>() {
            Ok(Place::Bucket(bucket)) => bucket.to_string(),
            Ok(Place::Files(path)) => path.display().to_string(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(named("s3://bucket/some/prefix/"), "s3://bucket/some/prefix");
        assert_eq!(named("gs://bucket"), "gs://bucket/");
        assert_eq!(named("az://box/p"), "az://box/p");
        assert_eq!(named("file:///var/blobs"), "/var/blobs");
        for wrong in [
            "bucket/prefix",
            "file://var/blobs",
            "http://bucket/prefix",
            "s3:///prefix",
            "s3://key:secret@bucket/prefix",
            "s3://host:8333/bucket",
            "az://box/p?sig=secret",
            "s3://bucket/a//b",
        ] {
            let error = named(wrong);
            assert!(
                error.starts_with("error: --blobs is not of the form"),
                "{wrong}: {error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
