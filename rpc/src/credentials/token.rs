//! The bearer token: where it is kept, and how it gets into every call.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

use super::CredentialsError;

/// The environment's variable for a token.
pub const TOKEN_VARIABLE: &str = "DUAL16_TOKEN";

/// A token of fewer characters can be guessed: 16 random bytes have 22 in base64.
const SHORT: usize = 20;

/// How long a token file is trusted to be what it was.
const FRESH: Duration = Duration::from_secs(5);

/// Where a token is.
#[derive(Clone)]
pub enum TokenSource {
    /// Here.
    Value(String),
    /// In a file of one line, which is read again: a token can be replaced while the caller runs.
    File(PathBuf),
}

/// Never the token itself.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl TokenSource {
    /// The file that a flag names, or else what [`TOKEN_VARIABLE`] holds, or else none.
    ///
    /// # Errors
    /// [`CredentialsError::TwoTokens`], and [`CredentialsError::Variable`] for one that is no text.
    pub fn of(file: Option<PathBuf>) -> Result<Option<Self>, CredentialsError> {
        let value = env::var_os(TOKEN_VARIABLE).filter(|value| !value.is_empty());
        match (file, value) {
            (Some(_), Some(_)) => Err(CredentialsError::TwoTokens),
            (Some(file), None) => Ok(Some(Self::File(file))),
            (None, None) => Ok(None),
            (None, Some(value)) => {
                let value = value
                    .into_string()
                    .map_err(|_| CredentialsError::Variable)?;
                Ok(Some(Self::Value(value)))
            }
        }
    }

    /// Why the token protects little, if it does: others on this machine can read its file, or it can be
    /// guessed. For whoever speaks to a person; nothing is refused for it.
    pub fn weakness(&self) -> Option<String> {
        let (text, file) = match self {
            Self::Value(value) => (value.clone(), None),
            Self::File(path) => (fs::read_to_string(path).ok()?, Some(path)),
        };
        let named = file.map_or_else(
            || TOKEN_VARIABLE.to_owned(),
            |path| format!("--token-file {}", path.display()),
        );
        if let Some(mode) = file.and_then(|path| others_mode(path)) {
            return Some(format!(
                "{named} can be read by others on this machine (mode {mode:o}): chmod 600 it"
            ));
        }
        let length = text.trim().len();
        (length < SHORT).then(|| {
            format!(
                "the token of {named} has {length} characters, and fewer than {SHORT} can be guessed: \
                 `dual16-server token new` makes one"
            )
        })
    }

    pub(super) fn open(&self) -> Result<Bearer, CredentialsError> {
        match self {
            Self::Value(value) => {
                let header = header(value).ok_or(CredentialsError::Variable)?;
                Ok(Bearer(Kept::Fixed(header)))
            }
            Self::File(path) => {
                let file = TokenFile {
                    path: path.clone(),
                    newest: Mutex::new((read(path)?, Instant::now())),
                };
                Ok(Bearer(Kept::File(Arc::new(file))))
            }
        }
    }
}

/// The mode of a file that everyone may read. Its group may: that is how clusters hand out secrets.
#[cfg(unix)]
fn others_mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o004 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn others_mode(_: &Path) -> Option<u32> {
    None
}

fn read(path: &Path) -> Result<MetadataValue<Ascii>, CredentialsError> {
    let flag = "--token-file";
    let text = fs::read_to_string(path).map_err(|source| CredentialsError::Read {
        flag,
        path: path.to_owned(),
        source,
    })?;
    header(&text).ok_or_else(|| CredentialsError::Content {
        flag,
        path: path.to_owned(),
        wanted: "token: it must be one line of visible ASCII characters",
    })
}

fn header(token: &str) -> Option<MetadataValue<Ascii>> {
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().ok()?;
    // Keeps it out of logs and out of the compression tables of HTTP/2.
    value.set_sensitive(true);
    Some(value)
}

/// Puts the token into every call.
#[derive(Clone)]
pub struct Bearer(Kept);

#[derive(Clone)]
enum Kept {
    Nothing,
    Fixed(MetadataValue<Ascii>),
    File(Arc<TokenFile>),
}

struct TokenFile {
    path: PathBuf,
    newest: Mutex<(MetadataValue<Ascii>, Instant)>,
}

impl TokenFile {
    /// What the file held a moment ago. One that cannot be read now is most likely being replaced.
    fn current(&self) -> MetadataValue<Ascii> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.1.elapsed() >= FRESH {
            newest.1 = Instant::now();
            if let Ok(read) = read(&self.path) {
                newest.0 = read;
            }
        }
        newest.0.clone()
    }
}

impl Bearer {
    /// No token at all.
    pub fn none() -> Self {
        Self(Kept::Nothing)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = match &self.0 {
            Kept::Nothing => return Ok(request),
            Kept::Fixed(token) => token.clone(),
            Kept::File(file) => file.current(),
        };
        request.metadata_mut().insert("authorization", token);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bearer: &mut Bearer) -> Option<String> {
        let request = bearer.call(Request::new(())).unwrap();
        let value = request.metadata().get("authorization")?;
        assert!(value.is_sensitive());
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_token_goes_with_every_call_and_nowhere_else() {
        assert_eq!(sent(&mut Bearer::none()), None);
        let source = TokenSource::Value(" secret\n".to_owned());
        let mut bearer = source.open().unwrap();
        assert_eq!(sent(&mut bearer).as_deref(), Some("Bearer secret"));
        assert!(!format!("{source:?} {bearer:?}").contains("secret"));
        for bad in ["", " \n", "two words", "two\nlines", "ü"] {
            assert!(
                TokenSource::Value(bad.to_owned()).open().is_err(),
                "{bad:?}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_token_that_protects_little_is_said() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "0123456789abcdefghijkl\n").unwrap();
        let said = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            TokenSource::File(path.clone()).weakness()
        };
        assert_eq!(said(0o600), None);
        assert_eq!(said(0o640), None);
        let open = said(0o644).unwrap();
        assert!(
            open.contains("mode 644") && open.contains("chmod 600"),
            "{open}"
        );
        let short = TokenSource::Value("hunter2".to_owned()).weakness().unwrap();
        assert!(
            short.contains("7 characters") && !short.contains("hunter2"),
            "{short}"
        );
    }

    #[test]
    fn a_replaced_file_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let mut bearer = TokenSource::File(path.clone()).open().unwrap();
        assert_eq!(sent(&mut bearer).as_deref(), Some("Bearer one"));
        let Kept::File(file) = bearer.0.clone() else {
            panic!("a file")
        };
        let age = || {
            let mut newest = file.newest.lock().unwrap();
            newest.1 = Instant::now().checked_sub(FRESH).unwrap();
        };
        fs::write(&path, "two").unwrap();
        age();
        assert_eq!(sent(&mut bearer).as_deref(), Some("Bearer two"));
        fs::remove_file(&path).unwrap();
        age();
        assert_eq!(sent(&mut bearer).as_deref(), Some("Bearer two"));
    }
}
