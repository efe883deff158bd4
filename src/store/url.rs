//! Where a store is: `file:PATH`, `memory:NAME`, and the object stores a later version opens.
//!
//! Parsing never touches the world, so that a runbook can be checked offline.

use super::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A parsed store URL. `Display` writes it the way an operator would.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreUrl {
    /// A folder, `file:archive/prod` (relative to the current folder) or `file:///srv/archive`.
    File(PathBuf),
    /// A store in this process's memory, shared by name.
    Memory(String),
    /// `s3://bucket/prefix`, `gs://…`, `az://…`: known, not opened by this version.
    Cloud {
        scheme: String,
        bucket: String,
        prefix: String,
    },
}

const SCHEMES: &str = "file:, memory:, s3:, gs:, az:";

impl StoreUrl {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: String| Error::BadUrl {
            url: text.to_string(),
            why,
        };
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(bad(format!("it names no kind of store ({SCHEMES})")));
        };
        match scheme {
            "file" => {
                // Both `file:path` and `file:///path`; `file://host/path` is another machine's file.
                let path = match rest.strip_prefix("//") {
                    Some(absolute) if absolute.starts_with('/') => absolute,
                    Some(_) => {
                        return Err(bad(
                            "a file: URL names no host (write file:///srv/archive)".into()
                        ));
                    }
                    None => rest,
                };
                if path.is_empty() {
                    return Err(bad("it names no folder (write file:archive/prod)".into()));
                }
                Ok(Self::File(PathBuf::from(path)))
            }
            "memory" => {
                if rest.is_empty() {
                    return Err(bad("it has no name (write memory:NAME)".into()));
                }
                Ok(Self::Memory(rest.to_string()))
            }
            "s3" | "gs" | "az" => {
                let place = rest.trim_start_matches('/');
                let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
                if bucket.is_empty() {
                    return Err(bad(format!(
                        "it names no bucket (write {scheme}://BUCKET/PREFIX)"
                    )));
                }
                Ok(Self::Cloud {
                    scheme: scheme.to_string(),
                    bucket: bucket.to_string(),
                    prefix: prefix.trim_end_matches('/').to_string(),
                })
            }
            other => Err(bad(format!(
                "{other:?} is no kind of store that kbr knows ({SCHEMES})"
            ))),
        }
    }

    /// The same store with a relative folder taken from `folder`: a store in `kbr.toml` is relative to that file.
    pub fn relative_to(self, folder: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            other => other,
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Memory(name) => write!(f, "memory:{name}"),
            Self::Cloud {
                scheme,
                bucket,
                prefix,
            } if prefix.is_empty() => write!(f, "{scheme}://{bucket}"),
            Self::Cloud {
                scheme,
                bucket,
                prefix,
            } => write!(f, "{scheme}://{bucket}/{prefix}"),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_store_url_is_read_and_written_back() {
        for (text, shown) in [
            ("file:archive/prod", "file:archive/prod"),
            ("file:/srv/archive", "file:/srv/archive"),
            ("file:///srv/archive", "file:/srv/archive"),
            ("memory:demo", "memory:demo"),
            ("s3://bucket/some/prefix/", "s3://bucket/some/prefix"),
            ("gs://bucket", "gs://bucket"),
            ("az:container/x", "az://container/x"),
        ] {
            assert_eq!(StoreUrl::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_wrong_store_url_says_what_is_wrong_and_what_to_write() {
        for (text, why) in [
            ("archive/prod", "names no kind of store"),
            ("ftp://host/x", "\"ftp\" is no kind of store"),
            ("file:", "names no folder"),
            ("file://host/x", "names no host"),
            ("memory:", "has no name"),
            ("s3://", "names no bucket"),
        ] {
            let message = StoreUrl::parse(text).unwrap_err().to_string();
            assert!(message.contains(why), "{text}: {message}");
        }
    }

    #[test]
    fn a_relative_folder_is_taken_from_the_given_one() {
        let url = StoreUrl::parse("file:archive").unwrap();
        assert_eq!(
            url.relative_to(Path::new("/etc/kbr")).to_string(),
            "file:/etc/kbr/archive"
        );
        let url = StoreUrl::parse("file:/srv/archive").unwrap();
        assert_eq!(
            url.relative_to(Path::new("/etc/kbr")).to_string(),
            "file:/srv/archive"
        );
    }
}
