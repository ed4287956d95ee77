//! The table `[remote]` of `gradus.toml`. Every value checks itself as it is read, so that a mistake is shown
//! at its place.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::key::PublicKey;

/// Where results are shared, and whose are believed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub url: Place,
    /// Whether runs upload what they made.
    #[serde(default)]
    pub write: bool,
    /// Whose results are believed.
    #[serde(default)]
    pub trusted: Vec<PublicKey>,
    /// The file of the key to sign with, relative to `gradus.toml`.
    pub key: Option<PathBuf>,
}

/// Where a remote is.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Place {
    pub(crate) kind: Kind,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    Gcs,
    Azure,
    /// Any web server: for reading alone.
    Http,
    Folder(PathBuf),
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const KNOWN: &str = "write `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `https://host/path`, or a folder";
        if text.is_empty() {
            return Err(format!("an empty `url` is no place: {KNOWN}"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self { kind: Kind::Folder(text.clone().into()), text });
        };
        let kind = match scheme {
            "s3" | "s3a" => Kind::S3,
            "gs" => Kind::Gcs,
            "az" | "azure" | "abfs" | "abfss" => Kind::Azure,
            "http" | "https" => Kind::Http,
            "file" if rest.starts_with('/') => Kind::Folder(rest.into()),
            _ => return Err(format!("`{text}` is no place that Gradus knows: {KNOWN}")),
        };
        let is_folder = matches!(kind, Kind::Folder(_));
        let host = rest.split('/').next().unwrap_or_default();
        // It is printed, and `gradus.toml` is committed.
        if !is_folder && (text.contains(['?', '#']) || (host.contains('@') && kind != Kind::Azure))
        {
            return Err("credentials do not belong here: put them into the environment".to_owned());
        }
        if !is_folder && host.is_empty() {
            return Err(format!("`{text}` names no bucket or host: {KNOWN}"));
        }
        Ok(Self { kind, text })
    }
}

impl Place {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What comes behind the bucket.
    pub(crate) fn prefix(&self) -> &str {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        rest.split_once('/').map_or("", |(_, prefix)| prefix.trim_matches('/'))
    }

    /// The same, with a folder found from `root` on.
    pub(crate) fn from(&self, root: &Path) -> Self {
        match &self.kind {
            Kind::Folder(folder) => {
                Self { kind: Kind::Folder(root.join(folder)), text: self.text.clone() }
            }
            _ => self.clone(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<Place, String> {
        Place::try_from(text.to_owned())
    }

    #[test]
    fn a_place_is_a_bucket_a_host_or_a_folder() {
        assert_eq!(place("s3://bucket/a/b/").unwrap().prefix(), "a/b");
        assert_eq!(place("gs://bucket").unwrap().prefix(), "");
        assert_eq!(place("https://host/a").unwrap().kind, Kind::Http);
        assert_eq!(place("../shared").unwrap().kind, Kind::Folder("../shared".into()));
        assert_eq!(place("file:///mnt/x").unwrap().kind, Kind::Folder("/mnt/x".into()));
        let found = place("shared").unwrap().from(Path::new("/project"));
        assert_eq!(found.kind, Kind::Folder("/project/shared".into()));
    }

    #[test]
    fn what_is_no_place_or_holds_credentials_is_refused() {
        for (text, why) in [
            ("", "empty"),
            ("ftp://host/x", "no place"),
            ("file://x", "no place"),
            ("s3:///x", "no bucket"),
            ("https://me:secret@host/x", "credentials"),
            ("https://host/x?sig=secret", "credentials"),
        ] {
            let said = place(text).unwrap_err();
            assert!(said.contains(why) && !said.contains("secret"), "{said}");
        }
    }
}
