//! Paths in JSON: as text, or where one is none as `{ "bytes": "…" }` in hexadecimal digits.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A path that is written to JSON and read from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonPath(#[serde(with = "crate::files::json_path")] pub PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(PathBuf),
    Raw { bytes: String },
}

/// Writes a path.
pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    let form = match path.to_str() {
        Some(_) => Form::Text(path.to_owned()),
        None => Form::Raw { bytes: hex::encode(path.as_os_str().as_encoded_bytes()) },
    };
    form.serialize(serializer)
}

/// Reads a path.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    match Form::deserialize(deserializer)? {
        Form::Text(path) => Ok(path),
        Form::Raw { bytes } => {
            let bytes =
                hex::decode(bytes).map_err(|_| D::Error::custom("the bytes of a path are no digits"))?;
            of_bytes(bytes).ok_or_else(|| D::Error::custom("a path is text on this system"))
        }
    }
}

/// The same of a path that there may be.
pub(crate) mod optional {
    use std::path::PathBuf;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::JsonPath;

    /// Writes one.
    pub(crate) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.clone().map(JsonPath).serialize(serializer)
    }

    /// Reads one.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<JsonPath>::deserialize(deserializer)?.map(|JsonPath(path)| path))
    }
}

#[cfg(unix)]
fn of_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    Some(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn of_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_is_read_as_it_was_written_whatever_its_bytes() {
        let text = JsonPath("/a/größe".into());
        assert_eq!(serde_json::to_value(&text).unwrap(), json!("/a/größe"));
        #[cfg(unix)]
        {
            let raw = JsonPath(of_bytes(b"/a/\xff".to_vec()).unwrap());
            assert_eq!(serde_json::to_value(&raw).unwrap(), json!({ "bytes": "2f612fff" }));
            for path in [text, raw] {
                let written = serde_json::to_string(&path).unwrap();
                assert_eq!(serde_json::from_str::<JsonPath>(&written).unwrap(), path);
            }
        }
        for nonsense in [json!(7), json!({ "bytes": "x" }), json!({ "bytes": 7 }), json!({})] {
            assert!(serde_json::from_value::<JsonPath>(nonsense).is_err());
        }
    }
}
